"""ICC profiles of matrix and curves, of tables, and of inks: read, applied to and from sRGB.

Profiles of matrix and tone curves (Display P3, Adobe RGB, and nearly every display profile) are
computed here: littleCMS in Pillow knows 8-bit pixels alone and clips at the borders of sRGB, and
libvips loses hundreds of 65,535 levels there. Profiles made of look-up tables go through
littleCMS, once, for the nodes of a grid that is then interpolated. No value depends on its
neighbours: sums are written out, as a matrix product may round by the number of rows.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from upscale.errors import ImageError
from upscale.icc.builder import D65, PRIMARIES, colorants

if TYPE_CHECKING:
    from PIL import Image as PillowImage
    from PIL import ImageCms


Array = NDArray[np.float32]
Pixels = NDArray[Any]

GRID = 33  # nodes a side for profiles made of look-up tables
SPACES = {b"RGB ": "RGB", b"GRAY": "GRAY", b"CMYK": "CMYK"}
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
        return srgb_encode(_mixed(light, to_linear_srgb() @ self.matrix))

    def from_srgb(self, x: Array) -> Array:
        """From sRGB values (..., 3; gray 1) to device values; the inverse of ``to_srgb``."""
        if self.space == "GRAY":
            light = srgb_decode(x)
            return self.curves[0].inverse(_lightness(light) if self.lightness else light)
        if x.shape[-1] == 1:
            return self.from_srgb(np.repeat(x, 3, -1))[..., 1:2]
        if self.matrix is None:
            return interpolate(_grid(self, False), x)
        matrix = np.asarray(np.linalg.inv(to_linear_srgb() @ self.matrix), np.float64)
        light = _mixed(srgb_decode(x), matrix)
        if len(set(self.curves)) == 1:
            return self.curves[0].inverse(light)
        return np.stack([c.inverse(light[..., i]) for i, c in enumerate(self.curves)], -1)


def _mixed(x: Array, matrix: NDArray[np.float64]) -> Array:
    """``matrix`` (3, 3) times the channels of ``x`` (..., 3)."""
    r, g, b = (x[..., i] for i in range(3))
    rows = matrix.astype(np.float32)
    return np.stack([r * row[0] + g * row[1] + b * row[2] for row in rows], -1)


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
    from PIL import Image as PillowImage

    axis = np.round(np.linspace(0, 255, GRID)).astype(np.uint8)
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    picture = PillowImage.fromarray(nodes.reshape(GRID, GRID * GRID, 3))
    done = np.asarray(transform(profile.data, picture, "RGB", forward))
    return (done.reshape(GRID, GRID, GRID, 3) / np.float32(255)).astype(np.float32)


@lru_cache(maxsize=16)
def _is_srgb(profile: Profile) -> bool:
    if profile.space == "GRAY":
        x = np.linspace(0, 1, 64, dtype=np.float32)[:, None]
    else:
        axis = np.linspace(0, 1, 5, dtype=np.float32)
        x = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    close = CLOSE if profile.matrix is not None or profile.space == "GRAY" else 1.5 / 255
    return bool(np.abs(profile.to_srgb(x) - x).max() < close)


def hdr_curve(data: bytes) -> int:
    """The transfer curve of the profile's code points (ITU-T H.273), 0 where it has none."""
    try:
        body = _tags(data).get(b"cicp", b"") if len(data) > 132 else b""
    except (struct.error, ValueError):
        return 0
    return body[9] if len(body) >= 12 else 0


@lru_cache(maxsize=16)
def parse(data: bytes) -> Profile:
    """Read a profile.

    Raises:
        ImageError: Damaged, or of a colour space other than RGB, gray and CMYK.
    """
    try:
        return _parse(data)
    except (struct.error, ValueError, IndexError, ZeroDivisionError) as error:
        raise ImageError(f"the ICC profile is damaged ({error}); assign it again") from error


def _parse(data: bytes) -> Profile:
    # 1. The header: 128 bytes, and the count of tags.
    if len(data) < 132 or data[36:40] != b"acsp":
        raise ValueError("no profile header")
    if int.from_bytes(data[:4], "big") > len(data):
        raise ValueError("cut short")
    space = SPACES.get(data[16:20])
    if space is None:
        raise ValueError(f"colour space {data[16:20]!r}")
    # 2. Gray: one curve. CMYK and tables (A2B0): left to littleCMS.
    tags = _tags(data)
    name = _description(tags.get(b"desc", b""))
    if space == "GRAY":
        curve = _curve(tags.get(b"kTRC", b""))
        return Profile(data, space, name, None, (curve,), data[20:24] == b"Lab ")
    needed = [b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"]
    if space == "CMYK" or b"A2B0" in tags:
        return Profile(data, space, name)
    if not set(needed) <= set(tags):
        raise ValueError("neither a matrix nor tables")
    # 3. Else RGB by a matrix, whose columns are the colorants, and a curve for each channel.
    matrix = np.array([_xyz(tags[t]) for t in needed[:3]]).T
    if abs(np.linalg.det(matrix)) < 1e-6:
        raise ValueError("its primaries span no space")
    curves = {tags[t]: _curve(tags[t]) for t in needed[3:]}  # equal ones are one
    return Profile(data, space, name, matrix, tuple(curves[tags[t]] for t in needed[3:]))


def _tags(data: bytes) -> dict[bytes, bytes]:
    count = int.from_bytes(data[128:132], "big")
    if count > 200:
        raise ValueError(f"{count} tags")
    tags = {}
    for i in range(count):
        name, offset, size = struct.unpack_from(">4sII", data, 132 + 12 * i)
        if offset + size > len(data):
            raise ValueError(f"tag {name!r} lies beyond the end")
        tags[name] = data[offset : offset + size]
    return tags


def _xyz(body: bytes) -> list[float]:
    if body[:4] != b"XYZ ":
        raise ValueError("a colorant is no XYZ value")
    return [v / 65536 for v in struct.unpack_from(">3i", body, 8)]


def _curve(body: bytes) -> Curve:
    if body[:4] == b"curv":
        count = int.from_bytes(body[8:12], "big")
        if count == 0:
            return Curve()
        if count == 1:
            return _gamma(struct.unpack_from(">H", body, 12)[0] / 256)
        table = np.frombuffer(body, ">u2", count, 12).astype(np.float64) / 65535
        if table[-1] <= table[0]:
            raise ValueError("a tone curve falls")
        return Curve(table)
    if body[:4] != b"para":
        raise ValueError("a tone curve of an unknown type")
    # Parametric curves of kind 0 to 4: each is kind 4 with some parameters at rest.
    kind = struct.unpack_from(">H", body, 8)[0]
    count = (1, 3, 4, 5, 7)[kind]
    p = [v / 65536 for v in struct.unpack_from(f">{count}i", body, 12)]
    if kind == 0:
        return _gamma(p[0])
    if p[0] <= 0 or p[1] <= 0:
        raise ValueError("a tone curve that cannot be inverted")
    if kind in (1, 2):
        g, a, b = p[:3]
        c = p[3] if kind == 2 else 0.0
        return Curve(parameters=(g, a, b, 0.0, -b / a, c, c))
    g, a, b, c, d = p[:5]
    e, f = p[5:] if kind == 4 else (0.0, 0.0)
    return Curve(parameters=(g, a, b, c, d, e, f))


def _gamma(value: float) -> Curve:
    if not 0.1 <= value <= 10:
        raise ValueError(f"gamma {value}")
    return Curve(parameters=(value, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0))


def _description(body: bytes) -> str:
    if body[:4] == b"mluc" and len(body) >= 28:
        length, offset = struct.unpack_from(">II", body, 20)
        return body[offset : offset + length].decode("utf-16-be", "replace").strip("\0")
    if body[:4] == b"desc" and len(body) >= 12:
        length = int.from_bytes(body[8:12], "big")
        return body[12 : 12 + min(length, 256)].split(b"\0")[0].decode("latin-1")
    return ""


def cmyk_profile(embedded: bytes | None, assumed: bytes | None) -> bytes:
    """The profile of separations.

    Raises:
        ImageError: There is no CMYK profile, neither in the file nor given.
    """
    profile = embedded or assumed
    if profile is None:
        raise ImageError(
            "this picture is CMYK and carries no ICC profile, so its colours are unknown; "
            "name one with --assume-icc FILE"
        )
    space = parse(profile).space
    if space != "CMYK":
        raise ImageError(
            f"this picture is CMYK and its ICC profile is of {space}; "
            "assign the right one, or remove it and name one with --assume-icc FILE"
        )
    return profile


def transform(
    profile: bytes, picture: PillowImage.Image, mode: str, forward: bool
) -> PillowImage.Image:
    """littleCMS: from the profile (Pillow mode ``mode``) to sRGB, or back where not ``forward``.

    Relative colorimetric with black point compensation, 8 bits.

    Raises:
        ImageError: littleCMS refuses the profile.
    """
    from PIL import ImageCms

    try:
        made = _made(profile, mode, forward)
        return ImageCms.applyTransform(picture, made)  # type: ignore[return-value]
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        raise ImageError(
            f"littleCMS cannot use the ICC profile ({error}); convert the picture to sRGB first"
        ) from error


@lru_cache(maxsize=4)
def _made(profile: bytes, mode: str, forward: bool) -> ImageCms.ImageCmsTransform:
    from PIL import ImageCms

    ours = (ImageCms.ImageCmsProfile(io.BytesIO(profile)), mode)
    srgb = (ImageCms.createProfile("sRGB"), "RGB")
    (source, source_mode), (target, target_mode) = (ours, srgb) if forward else (srgb, ours)
    return ImageCms.buildTransform(
        source,
        target,
        source_mode,
        target_mode,
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


def inks_to_rgb(separations: Pixels, profile: bytes) -> Pixels:
    """Rows of separations (h, W, 4), full ink 255, to sRGB (h, W, 3)."""
    from PIL import Image as PillowImage

    picture = PillowImage.fromarray(np.ascontiguousarray(separations), "CMYK")
    return np.asarray(transform(profile, picture, "CMYK", True))


def rgb_to_inks(pixels: Pixels, profile: bytes) -> Pixels:
    """The inverse of ``inks_to_rgb``."""
    from PIL import Image as PillowImage

    picture = PillowImage.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(transform(profile, picture, "CMYK", False))
