"""ICC profiles made of look-up tables, for tests: a CMYK press and an RGB device."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from upscale import icc
from upscale.icc import builder

Array = NDArray[np.float64]


def gray_profile(description: str, gamma: float) -> bytes:
    """A version 4 profile of one gray channel with a power curve."""
    para = b"para" + struct.pack(">IHH", 0, 0, 0) + builder._fixed(gamma)
    body = {b"desc": builder._unicode(description), b"cprt": builder._unicode("CC0")}
    body |= {b"wtpt": builder._xyz(builder.D50), b"kTRC": para}
    return builder._assemble(b"GRAY", body)


def _lab_of_srgb(rgb: Array) -> Array:
    """Encoded sRGB to L*a*b* of D50."""
    linear = icc.srgb_decode(rgb.astype(np.float32)).astype(np.float64)
    xyz = linear @ np.linalg.inv(icc.to_linear_srgb()).T / icc.D50
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = (f[..., i] for i in range(3))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _srgb_of_lab(lab: Array) -> Array:
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * icc.D50
    linear = (xyz @ icc.to_linear_srgb().T).astype(np.float32)
    return np.clip(icc.srgb_encode(linear), 0, 1).astype(np.float64)


def _lut8(channels: int, out: int, grid: int, table: Array) -> bytes:
    """``table``: grid**channels x out, in [0, 1]."""
    identity = bytes(range(256))
    head = b"mft1" + struct.pack(">IBBBB", 0, channels, out, grid, 0)
    matrix = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    body = np.round(np.clip(table, 0, 1) * 255).astype(np.uint8).tobytes()
    return head + matrix + identity * channels + body + identity * out


def _nodes(channels: int, grid: int) -> Array:
    axes = [np.linspace(0, 1, grid)] * channels
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, channels)


def _profile(
    space: bytes,
    channels: int,
    to_rgb: Callable[[Array], Array],
    from_rgb: Callable[[Array], Array],
) -> bytes:
    grid = 7 if channels == 4 else 17
    lab = _lab_of_srgb(to_rgb(_nodes(channels, grid)))
    forward = np.stack([lab[:, 0] / 100, (lab[:, 1] + 128) / 255, (lab[:, 2] + 128) / 255], -1)
    back = _nodes(3, 17)
    back = np.stack([back[:, 0] * 100, back[:, 1] * 255 - 128, back[:, 2] * 255 - 128], -1)
    tags = {
        b"desc": builder._unicode("Test tables"),
        b"cprt": builder._unicode("CC0"),
        b"wtpt": builder._xyz(icc.D50),
        b"A2B0": _lut8(channels, 3, grid, forward),
        b"B2A0": _lut8(3, channels, 17, from_rgb(_srgb_of_lab(back))),
    }
    raw = bytearray(builder._assemble(space, tags))
    raw[8:12] = b"\x02\x40\0\0"
    raw[12:16] = b"prtr"
    raw[20:24] = b"Lab "
    return bytes(raw)


def cmyk_profile() -> bytes:
    """Ideal inks: what is not absorbed is multiplied; on the way back black takes all it can."""

    def from_rgb(rgb: Array) -> Array:
        black = 1 - rgb.max(-1, keepdims=True)
        inks = (1 - rgb - black) / np.maximum(1 - black, 1e-6)
        return np.concatenate([inks, black], -1)

    return _profile(b"CMYK", 4, lambda c: (1 - c[:, :3]) * (1 - c[:, 3:]), from_rgb)


def rgb_tables_profile() -> bytes:
    """Another contrast: device values are the squares of sRGB values."""
    return _profile(b"RGB ", 3, np.sqrt, np.square)
