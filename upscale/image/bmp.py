"""BMP: bit fields read here, other kinds by Pillow; written by OpenCV."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from upscale.errors import ImageError
from upscale.image import hdr, pillow
from upscale.image.metadata import Metadata
from upscale.image.model import Image, Info, Pixels

INCH = 39.3700787  # pixels per metre of one pixel per inch
RUNS = {1: 8, 2: 4}  # bits of a pixel in the kinds that are run lengths
FIELDS = (3, 6)  # kinds with masks, without and with one for alpha
DAMAGED = "the BMP is damaged or cut short; fetch it again"


def look(data: bytes) -> tuple[Info, Callable[[], Image]]:
    """What the header says, and what decodes the picture.

    Raises:
        ImageError: Damaged or cut short; so does the decoder.
    """
    head = data[:138].ljust(138, b"\0")
    start, length = struct.unpack_from("<II", head, 10)
    width, height, _, bits, kind = struct.unpack_from("<iiHHI", head, 18)
    if length >= 40 and kind in FIELDS and bits in (16, 32):
        return _look_fields(data, head, (width, height), bits)
    if length >= 40 and kind in RUNS:
        _check_runs(data, start, width, abs(height), RUNS[kind])
    elif length >= 40 and abs(width * height) * bits // 8 > len(data):
        raise ImageError(
            f"the BMP is cut short: it cannot hold {width} x {abs(height)}; fetch it again"
        )
    info, decode = pillow.look("bmp", data)
    metadata = replace(info.metadata, icc=_profile(data, length))
    return replace(info, metadata=metadata), lambda: replace(decode(), metadata=metadata)


def _profile(data: bytes, length: int) -> bytes | None:
    """The profile that a header of version 5 embeds."""
    if length < 124 or data[70:74] != b"DEBM":
        return None
    at, size = struct.unpack_from("<II", data, 126)
    return data[14 + at : 14 + at + size] or None


def _look_fields(
    data: bytes, head: bytes, size: tuple[int, int], bits: int
) -> tuple[Info, Callable[[], Image]]:
    """A picture whose channels are fields of bits in one number a pixel."""
    start, length = struct.unpack_from("<II", head, 10)
    masks = [*struct.unpack_from("<4I", head, 54)]
    if length < 56 and struct.unpack_from("<I", head, 30)[0] == 3:
        masks[3] = 0  # those of a short header have none for alpha
    (width, signed), stored = size, bits // 8
    height, stride = abs(signed), -(-width * stored // 4) * 4
    if width < 1 or not height or not any(masks[:3]) or start + height * stride > len(data) + 3:
        raise ImageError(DAMAGED)
    depth = 16 if max(mask.bit_count() for mask in masks) > 8 else 8
    x, y = struct.unpack_from("<ii", head, 38)
    dpi = (x / INCH, y / INCH) if x > 0 and y > 0 else None
    metadata = Metadata("bmp", dpi=dpi, icc=_profile(data, length))
    channels = 4 if masks[3] else 3

    def decode() -> Image:
        raw = np.frombuffer(
            data[start : start + height * stride].ljust(height * stride, b"\0"), np.uint8
        )
        rows = raw.reshape(height, stride)[:, : width * stored]
        values = np.ascontiguousarray(rows).view(f"<u{stored}").astype(np.uint32)
        pixels = np.stack([_field(values, mask, depth) for mask in masks[:channels]], -1)
        if channels == 4 and not pixels[:, :, 3].any():  # written by those who know no alpha
            pixels[:, :, 3] = 2**depth - 1
        return Image(np.ascontiguousarray(pixels[::-1] if signed > 0 else pixels), metadata)

    return Info("bmp", width, height, depth, channels, metadata=metadata), decode


def _field(values: Pixels, mask: int, depth: int) -> Pixels:
    """The bits of a mask, full scale to full scale."""
    full, shift = 2**depth - 1, (mask & -mask).bit_length() - 1
    dtype = np.uint8 if depth == 8 else np.uint16
    if not mask:
        return np.zeros(values.shape, dtype)
    top = mask >> shift
    field = ((values & np.uint32(mask)) >> np.uint32(shift)).astype(np.uint64)
    scaled: Pixels = ((field * (2 * full) + top) // (2 * top)).astype(dtype)
    return scaled


def _check_runs(data: bytes, at: int, width: int, height: int, bits: int) -> None:
    """Follow the run lengths, which Pillow fills up where they end early or leave a row.

    Raises:
        ImageError: They do.
    """
    x = y = 0
    while at + 2 <= len(data):
        count, value = data[at], data[at + 1]
        at += 2
        if count:
            x += count
        elif value == 0:
            x, y = 0, y + 1
        elif value == 1:
            return
        elif value == 2:
            x, y = x + data[at : at + 2][0], y + data[at + 1 : at + 2][0]
            at += 2
        else:
            size = -(-value * bits // 8)
            x, at = x + value, at + size + size % 2
        if x > width or y > height or (y == height and x):
            raise ImageError(DAMAGED)
    if y < height - 1 or (y == height - 1 and x < width):
        raise ImageError(DAMAGED)


def encode(image: Image) -> bytes:
    """A picture (8 bit) to the bytes of a BMP; gray with alpha as RGB."""
    pixels = image.pixels[:, :, [0, 0, 0, 1]] if image.pixels.shape[2] == 2 else image.pixels
    data = hdr.encoded(pixels, ".bmp")
    resolution = struct.pack("<ii", *(round(d * INCH) for d in image.metadata.dpi or (0, 0)))
    return data[:38] + resolution + data[46:]
