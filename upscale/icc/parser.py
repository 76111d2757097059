"""Reading ICC profiles: bytes to a ``Profile``."""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np

from upscale.errors import ImageError
from upscale.icc.profile import Curve, Profile

SPACES = {b"RGB ": "RGB", b"GRAY": "GRAY", b"CMYK": "CMYK"}


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
    found = _tags(data)
    name = _description(found.get(b"desc", b""))
    if space == "GRAY":
        curve = _curve(found.get(b"kTRC", b""))
        return Profile(data, space, name, None, (curve,), data[20:24] == b"Lab ")
    wanted = [b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"]
    if space == "CMYK" or b"A2B0" in found:
        return Profile(data, space, name)
    if not set(wanted) <= set(found):
        raise ValueError("neither a matrix nor tables")
    # 3. Else RGB by a matrix, whose columns are the colorants, and a curve for each channel.
    matrix = np.array([_xyz(found[t]) for t in wanted[:3]]).T
    if abs(np.linalg.det(matrix)) < 1e-6:
        raise ValueError("its primaries span no space")
    curves = {found[t]: _curve(found[t]) for t in wanted[3:]}  # equal ones are one
    return Profile(data, space, name, matrix, tuple(curves[found[t]] for t in wanted[3:]))


def _tags(data: bytes) -> dict[bytes, bytes]:
    count = int.from_bytes(data[128:132], "big")
    if count > 200:
        raise ValueError(f"{count} tags")
    found = {}
    for i in range(count):
        name, offset, size = struct.unpack_from(">4sII", data, 132 + 12 * i)
        if offset + size > len(data):
            raise ValueError(f"tag {name!r} lies beyond the end")
        found[name] = data[offset : offset + size]
    return found


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
