"""ICC profiles (ICC.1:2022) written: matrix and curve."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from upscale.errors import ImageError

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
REC709_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
# By the code points of ITU-T H.273, as PNG and AVIF name them.
CODED_PRIMARIES = {1: PRIMARIES["srgb"], 9: PRIMARIES["rec2020"], 12: PRIMARIES["p3"]}
CODED_PRIMARIES[5] = ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06))
CODED_PRIMARIES[6] = ((0.63, 0.34), (0.31, 0.595), (0.155, 0.07))
CODED_CURVES: dict[int, tuple[float, ...]] = dict.fromkeys((1, 6, 14, 15), REC709_CURVE)
CODED_CURVES |= {13: SRGB_CURVE, 4: (2.2,), 5: (2.8,), 8: (1.0,)}


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
            f"the primaries {primaries} span no colour space; assign another profile"
        ) from error
    gain = (BRADFORD @ D50) / (BRADFORD @ xyz[:, 3])
    if not np.isfinite(scaled).all() or abs(np.linalg.det(scaled)) < 1e-6:
        raise ImageError(f"the primaries {primaries} span no colour space; assign another profile")
    return np.asarray(np.linalg.inv(BRADFORD) @ np.diag(gain) @ BRADFORD @ scaled)


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
