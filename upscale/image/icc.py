"""ICC profiles (ICC.1:2022): read, built, and applied to and from sRGB in floating point.

Profiles of matrix and tone curves (Display P3, Adobe RGB, and nearly every display profile) are
computed
here: Pillow's littleCMS knows 8-bit pixels alone, clips at the borders of sRGB, and both lose what
    a 16-bit picture in a wide space holds. Profiles made of look-up tables go through littleCMS,
    once, for the nodes of a grid that is then interpolated.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageCms

from upscale.errors import ImageError

Array = NDArray[np.float32]

D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
D65 = (0.3127, 0.3290)
PRIMARIES = {  # x and y of red, green, blue
    "srgb": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),  # also Rec. 709
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "rec2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "adobe": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
}
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # g a b c d of ICC type 3
GRID = 33  # nodes a side for profiles made of look-up tables
CLOSE = 0.001  # a quarter of an 8-bit level: profiles nearer to sRGB than this are sRGB


def srgb_encode(linear: Array) -> Array:
    """Linear light to the sRGB tone curve (IEC 61966-2-1), odd below 0 and going on above 1."""
    size = np.abs(linear, dtype=np.float32)
    out = np.maximum(size, np.float32(0.0031308))
    np.power(out, np.float32(1 / 2.4), out=out)
    out *= np.float32(1.055)
    out -= np.float32(0.055)
    np.multiply(size, np.float32(12.92), out=out, where=size <= 0.0031308)
    return np.copysign(out, linear, out=out)


def srgb_decode(value: Array) -> Array:
    """The inverse of ``srgb_encode``."""
    size = np.abs(value, dtype=np.float32)
    out = np.maximum(size, np.float32(0.04045))
    out += np.float32(0.055)
    out /= np.float32(1.055)
    np.power(out, np.float32(2.4), out=out)
    np.divide(size, np.float32(12.92), out=out, where=size <= 0.04045)
    return np.copysign(out, value, out=out)


@dataclass(frozen=True, eq=False)
class Curve:
    """A tone curve: a table over [0, 1], or g, a, b, c, d, e, f of a parametric curve.

    Parametric: (a x + b)^g + e from d on, c x + f below.
    """

    table: NDArray[np.float64] | None = None
    parameters: tuple[float, ...] = (1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)

    @property
    def is_linear(self) -> bool:
        """Whether the curve gives back what it gets."""
        return self.table is None and self.parameters == Curve().parameters

    def forward(self, x: Array) -> Array:
        """Device value to linear light."""
        if self.table is not None:
            nodes = np.linspace(0, 1, len(self.table))
            return np.interp(x, nodes, self.table).astype(np.float32)
        g, a, b, c, d, e, f = (np.float32(v) for v in self.parameters)
        size = np.abs(x, dtype=np.float32)
        out = size * a + b
        np.power(np.maximum(out, 0, out=out), g, out=out)
        out += e
        np.copyto(out, c * size + f, where=size < d)
        return np.asarray(np.copysign(out, x, out=out), np.float32)

    def inverse(self, y: Array) -> Array:
        """Linear light to device value."""
        if self.table is not None:
            rising = np.maximum.accumulate(self.table)
            rising = rising + np.arange(len(rising)) * 1e-12
            nodes = np.linspace(0, 1, len(rising))
            return np.interp(y, rising, nodes).astype(np.float32)
        g, a, b, c, d, e, f = self.parameters
        edge = (a * d + b) ** g + e if a * d + b > 0 else e
        size = np.abs(y, dtype=np.float32)
        out = np.maximum(size - np.float32(e), 0)
        np.power(out, np.float32(1 / g), out=out)
        out -= np.float32(b)
        out /= np.float32(a)
        low = (size - np.float32(f)) / np.float32(c) if c else np.zeros_like(size)
        np.copyto(out, np.maximum(low, 0), where=size < edge)
        return np.copysign(out, y, out=out)


@dataclass(frozen=True, eq=False)
class Profile:
    """A profile that has been read.

    Attributes:
        data: Its bytes.
        space: "RGB", "GRAY" or "CMYK".
        description: Its name.
        matrix: 3 x 3, linear device RGB to XYZ relative to D50; None for other kinds.
        curves: One tone curve for each channel; empty where look-up tables rule.
        lightness: The gray curve gives L* and not light.
    """

    data: bytes = field(repr=False)
    space: str
    description: str
    matrix: NDArray[np.float64] | None = None
    curves: tuple[Curve, ...] = ()
    lightness: bool = False

    @property
    def is_srgb(self) -> bool:
        """Whether the profile is sRGB (gray: its tone curve) to a quarter of an 8-bit level."""
        return _is_srgb(self)

    @property
    def is_linear(self) -> bool:
        """Whether device values are light, without a tone curve."""
        return bool(self.curves) and not self.lightness and all(c.is_linear for c in self.curves)

    def to_srgb(self, x: Array) -> Array:
        """Device values (..., channels) to sRGB (gray: (..., 1)); unclipped."""
        if self.space == "GRAY":
            light = self.curves[0].forward(x)
            return srgb_encode(_light(light) if self.lightness else light)
        if x.shape[-1] == 1:  # a gray picture in an RGB space
            return self.to_srgb(np.repeat(x, 3, -1))[..., 1:2]
        if self.matrix is None:
            return interpolate(_grid(self, True), x)
        if len(set(self.curves)) == 1:
            light = self.curves[0].forward(x)
        else:
            light = np.stack([c.forward(x[..., i]) for i, c in enumerate(self.curves)], -1)
        return srgb_encode(light @ (to_linear_srgb() @ self.matrix).T.astype(np.float32))

    def from_srgb(self, x: Array) -> Array:
        """From sRGB values (..., 3; gray 1) to device values; the inverse of ``to_srgb``."""
        if self.space == "GRAY":
            light = srgb_decode(x)
            return self.curves[0].inverse(_lightness(light) if self.lightness else light)
        if x.shape[-1] == 1:
            return self.from_srgb(np.repeat(x, 3, -1))[..., 1:2]
        if self.matrix is None:
            return interpolate(_grid(self, False), x)
        matrix = np.linalg.inv(to_linear_srgb() @ self.matrix)
        light = srgb_decode(x) @ matrix.T.astype(np.float32)
        if len(set(self.curves)) == 1:
            return self.curves[0].inverse(light)
        return np.stack([c.inverse(light[..., i]) for i, c in enumerate(self.curves)], -1)


def _light(lightness: Array) -> Array:
    """L* / 100 to relative luminance (CIE 1976)."""
    low = lightness * (100 * 27 / 24389)
    cube = ((lightness * 100 + 16) / 116) ** 3
    return np.where(lightness > 0.08, cube, low).astype(np.float32)


def _lightness(light: Array) -> Array:
    root = (116 * np.cbrt(np.maximum(light, 0)) - 16) / 100
    return np.where(light > 216 / 24389, root, light * (24389 / 2700)).astype(np.float32)


@lru_cache(maxsize=1)
def to_linear_srgb() -> NDArray[np.float64]:
    """XYZ relative to D50 to linear sRGB, 3 x 3."""
    return np.asarray(np.linalg.inv(colorants(PRIMARIES["srgb"], D65)), np.float64)


def colorants(
    primaries: tuple[tuple[float, float], ...], white: tuple[float, float]
) -> NDArray[np.float64]:
    """Linear RGB of the given chromaticities to XYZ, adapted to D50 by Bradford's method; 3 x 3.

    Raises:
        ImageError: The chromaticities span no colour space.
    """
    try:
        xyz = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in (*primaries, white)]).T
        scaled = xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])
    except (ZeroDivisionError, np.linalg.LinAlgError) as error:
        raise ImageError(
            f"the primaries {primaries} span no colour space; remove the colour chunks (cHRM)"
        ) from error
    gain = (BRADFORD @ D50) / (BRADFORD @ xyz[:, 3])
    if not np.isfinite(scaled).all() or abs(np.linalg.det(scaled)) < 1e-6:
        raise ImageError(
            f"the primaries {primaries} span no colour space; remove the colour chunks (cHRM)"
        )
    return np.asarray(np.linalg.inv(BRADFORD) @ np.diag(gain) @ BRADFORD @ scaled)


def interpolate(grid: Array, x: Array) -> Array:
    """Look up ``x`` (..., 3) in [0, 1] in a grid (N, N, N, 3), trilinearly."""
    n = grid.shape[0] - 1
    flat = np.clip(x.reshape(-1, 3), 0, 1) * n
    low = np.minimum(flat.astype(np.int64), n - 1)
    part = (flat - low).astype(np.float32)
    out = np.zeros_like(flat, dtype=np.float32)
    for corner in range(8):
        bits = np.array([corner >> 2 & 1, corner >> 1 & 1, corner & 1])
        weight = np.where(bits, part, 1 - part).prod(-1, keepdims=True)
        at = low + bits
        out += weight * grid[at[:, 0], at[:, 1], at[:, 2]]
    return out.reshape(x.shape)


@lru_cache(maxsize=8)
def _grid(profile: Profile, forward: bool) -> Array:
    """The transform to (``forward``) or from sRGB at the nodes of a grid, by littleCMS."""
    axis = np.round(np.linspace(0, 255, GRID)).astype(np.uint8)
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    picture = PillowImage.fromarray(nodes.reshape(GRID, GRID * GRID, 3))
    done = np.asarray(transform(profile.data, picture, "RGB", forward))
    return (done.reshape(GRID, GRID, GRID, 3) / np.float32(255)).astype(np.float32)


def transform(
    profile: bytes, picture: PillowImage.Image, mode: str, forward: bool
) -> PillowImage.Image:
    """littleCMS: from the profile (Pillow mode ``mode``) to sRGB, or back where not ``forward``.

    Relative colorimetric with black point compensation, 8 bits.

    Raises:
        ImageError: littleCMS refuses the profile.
    """
    try:
        ours = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        pair = (ours, ImageCms.createProfile("sRGB"))
        modes = (mode, "RGB")
        source, target = pair if forward else pair[::-1]
        made = ImageCms.buildTransform(
            source,
            target,
            *(modes if forward else modes[::-1]),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        return ImageCms.applyTransform(picture, made)  # type: ignore[return-value]
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        raise ImageError(
            f"littleCMS cannot use the ICC profile ({error}); convert the picture to sRGB first"
        ) from error


@lru_cache(maxsize=16)
def _is_srgb(profile: Profile) -> bool:
    if profile.space == "GRAY":
        x = np.linspace(0, 1, 64, dtype=np.float32)[:, None]
    else:
        axis = np.linspace(0, 1, 5, dtype=np.float32)
        x = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    close = CLOSE if profile.matrix is not None or profile.space == "GRAY" else 1.5 / 255
    return bool(np.abs(profile.to_srgb(x) - x).max() < close)


def build(
    description: str,
    primaries: tuple[tuple[float, float], ...] = PRIMARIES["srgb"],
    curve: tuple[float, ...] = SRGB_CURVE,
    white: tuple[float, float] = D65,
) -> bytes:
    """A version 4 matrix profile.

    Args:
        description: Its name.
        primaries: Chromaticities of red, green and blue.
        curve: Parameters of an ICC parametric curve: (gamma,) or (g, a, b, c, d).
        white: Chromaticity of white.
    """
    matrix = colorants(primaries, white)
    kind = {1: 0, 5: 3}[len(curve)]
    para = b"para" + struct.pack(">IHH", 0, kind, 0) + b"".join(_fixed(v) for v in curve)
    body = {b"desc": _unicode(description), b"cprt": _unicode("CC0"), b"wtpt": _xyz(D50)}
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix.T, strict=True):
        body[name] = _xyz(column)
    for name in (b"rTRC", b"gTRC", b"bTRC"):
        body[name] = para
    return _assemble(b"RGB ", body)


def build_gray(description: str, gamma: float) -> bytes:
    """A version 4 profile of one gray channel with a power curve."""
    para = b"para" + struct.pack(">IHH", 0, 0, 0) + _fixed(gamma)
    body = {b"desc": _unicode(description), b"cprt": _unicode("CC0"), b"wtpt": _xyz(D50)}
    return _assemble(b"GRAY", body | {b"kTRC": para})


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(_fixed(float(v)) for v in values)


def _unicode(text: str) -> bytes:
    raw = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(raw), 28) + raw


def _assemble(space: bytes, body: dict[bytes, bytes]) -> bytes:
    table, data, placed = b"", b"", {}
    start = 128 + 4 + 12 * len(body)
    for name, content in body.items():
        if content not in placed:
            data += b"\0" * (-len(data) % 4)
            placed[content] = start + len(data)
            data += content
        table += name + struct.pack(">II", placed[content], len(content))
    data += b"\0" * (-len(data) % 4)
    head = struct.pack(
        ">I4sI4s4s4s", start + len(data), b"\0\0\0\0", 0x04400000, b"mntr", space, b"XYZ "
    )
    date = struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    white = b"".join(_fixed(float(v)) for v in D50)
    rest = date + b"acsp" + bytes(28) + white
    return (head + rest).ljust(128, b"\0") + struct.pack(">I", len(body)) + table + data
