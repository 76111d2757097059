"""PNG written strip by strip: every row by the Paeth filter, every strip a part of one stream."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from upscale.image import deflate
from upscale.image.model import Pixels
from upscale.image.parallel import in_order

SIGNATURE = b"\x89PNG\r\n\x1a\n"
STRIP = 1 << 20  # bytes of pixels in a strip, about
COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}  # colour type of each count of channels
PAETH = 4
ZLIB_HEADER, LAST_BLOCK = b"\x78\x01", b"\x03\0"


@dataclass(frozen=True)
class Strip:
    """Rows (h, W, C) and the row above them; ``None`` at the top."""

    rows: Pixels
    above: Pixels | None


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    checksum = zlib.crc32(body, zlib.crc32(kind))
    return b"".join([struct.pack(">I", len(body)), kind, body, struct.pack(">I", checksum)])


def header(width: int, height: int, depth: int, colour: int, *, interlaced: bool = False) -> bytes:
    """The IHDR chunk."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


def header_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """The IHDR chunk of a picture (H, W, C)."""
    height, width, channels = shape
    return header(width, height, dtype.itemsize * 8, COLOURS[channels])


def file_of(head: bytes, parts: Iterable[bytes]) -> bytes:
    """A whole file: its IHDR chunk and what follows up to IEND."""
    return b"".join([SIGNATURE, head, *parts, chunk(b"IEND", b"")])


def rows_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Rows of a strip."""
    _, width, channels = shape
    return max(1, STRIP // (width * channels * dtype.itemsize))


def idat(strips: Iterable[Pixels], level: int) -> Iterator[bytes]:
    """The IDAT chunks of a picture.

    Args:
        strips: Its rows, (h, W, C) uint8 or uint16, ``rows_of`` of them at a time.
        level: Effort of zlib, 0 to 9.
    """
    checksum, head = 1, ZLIB_HEADER
    for filtered, packed in in_order(lambda strip: _packed(strip, level), _with_above(strips)):
        checksum = zlib.adler32(filtered, checksum)
        yield chunk(b"IDAT", head + packed)
        head = b""
    yield chunk(b"IDAT", head + LAST_BLOCK + struct.pack(">I", checksum))


def _with_above(strips: Iterable[Pixels]) -> Iterator[Strip]:
    above = None
    for rows in strips:
        yield Strip(rows, above)
        above = rows[-1]


def _packed(strip: Strip, level: int) -> tuple[bytes, bytes]:
    """The filtered bytes of a strip, and the same compressed."""
    filtered = paeth(strip.rows, strip.above).tobytes()
    return filtered, deflate.packed(filtered, level, deflate.RAW, zlib.Z_SYNC_FLUSH)


def paeth(rows: Pixels, above: Pixels | None) -> Pixels:
    """Rows (h, W, C) as PNG stores them, (h, 1 + bytes of a row), by filter type 4.

    Args:
        rows: uint8 or uint16.
        above: The row before the first, (W, C); ``None`` for the top of the picture.
    """
    step = rows.shape[2] * rows.dtype.itemsize
    flat = bytes_of(rows)
    height, length = flat.shape
    padded = np.zeros((height + 1, length + step), np.uint8)  # a row above, a pixel at the left
    padded[1:, step:] = flat
    if above is not None:
        padded[0, step:] = bytes_of(above[None])[0]
    out = np.empty((height, 1 + length), np.uint8)
    out[:, 0] = PAETH
    left, up, corner = padded[1:, :-step], padded[:-1, step:], padded[:-1, :-step]
    np.subtract(flat, _nearest(left, up, corner), out=out[:, 1:])
    return out


def bytes_of(rows: Pixels) -> Pixels:
    """Rows (h, W, C) as bytes, (h, bytes of a row), high bytes first."""
    big = np.ascontiguousarray(rows.astype(rows.dtype.newbyteorder(">"), copy=False))
    return big.view(np.uint8).reshape(len(rows), -1)


def _nearest(left: Pixels, up: Pixels, corner: Pixels) -> Pixels:
    """Whichever of the three is nearest to left + up - corner, in this order where equal."""
    by_left = up.astype(np.int16) - corner
    by_up = left.astype(np.int16) - corner
    to_left, to_up, to_corner = np.abs(by_left), np.abs(by_up), np.abs(by_left + by_up)
    found = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, found)
