"""BMP: read by Pillow; written here, as the version 5 header alone holds alpha and a profile."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import numpy as np
from PIL import BmpImagePlugin

from upscale.errors import ImageError
from upscale.image.model import Image, Info, Metadata, Pixels, check_size
from upscale.image.pillow import array_of, load

SRGB, EMBEDDED = b"BGRs", b"DEBM"  # kinds of colour space of the version 5 header
INCH = 39.3700787  # pixels per metre of one pixel per inch


def probe(data: bytes) -> Info:
    """What the header says.

    Raises:
        ImageError: Damaged, or promising more pixels than the file can hold.
    """
    if len(data) < 26:
        raise ImageError("the BMP is cut short inside its header; fetch it again")
    offset, size = struct.unpack("<II", data[10:18])
    compression, dpi = 0, None
    if size == 12:
        width, height, _, bits = struct.unpack("<HHHH", data[18:26])
    elif size >= 40 and len(data) >= 14 + size:
        width, height, _, bits, compression = struct.unpack("<iiHHI", data[18:34])
        x, y = struct.unpack("<ii", data[38:46])
        dpi = (x / INCH, y / INCH) if x > 0 and y > 0 else None
    else:
        raise ImageError(f"the BMP has a header of {size} bytes; save the picture again")
    height = abs(height)
    most = len(data) * 1000 if compression in (1, 2) else (len(data) - offset) * 8 // max(bits, 1)
    if width * height > most:
        raise ImageError(f"the BMP is cut short: it cannot hold {width} x {height}; fetch it again")
    metadata = Metadata("bmp", icc=_profile(data, size), dpi=dpi)
    kind = "palette" if bits <= 8 else ""
    return Info(
        "bmp", width, height, 8, 4 if _has_alpha(data, size) else 3, 1, kind, metadata=metadata
    )


def _has_alpha(data: bytes, size: int) -> bool:
    return size >= 56 and data[66:70] != b"\0\0\0\0" and data[28] == 32


def _profile(data: bytes, size: int) -> bytes | None:
    """The embedded profile of a version 5 header."""
    if size < 124 or data[70:74] != EMBEDDED:
        return None
    offset, length = struct.unpack("<II", data[126:134])
    return data[14 + offset : 14 + offset + length] or None


def decode(data: bytes, max_pixels: int, assume: bytes | None) -> Image:
    """Bytes of a BMP to a picture.

    Raises:
        ImageError: Damaged, truncated, or larger than ``max_pixels``.
    """
    info = probe(data)
    check_size(info.width, info.height, max_pixels)
    picture = load(lambda: BmpImagePlugin.BmpImageFile(io.BytesIO(data)), "BMP")
    metadata = replace(info.metadata, palette=picture.mode == "P", bilevel=picture.mode == "1")
    return Image(array_of(picture), metadata)


def encode(image: Image) -> bytes:
    """A picture (8 bit) to the bytes of a BMP: gray with a palette, RGB, or RGBA by bit fields."""
    p = image.pixels
    height, width, channels = p.shape
    if channels == 2:
        p = np.concatenate([p[:, :, [0, 0, 0]], p[:, :, 1:]], 2)
        channels = 4
    stride = (width * channels + 3) // 4 * 4
    table = b"".join(bytes((i, i, i, 0)) for i in range(256)) if channels == 1 else b""
    offset = 14 + 124 + len(table)
    size = stride * height
    profile = image.metadata.icc or b""
    if offset + size + len(profile) >= 2**32:
        raise ImageError(f"{width} x {height} does not fit in a BMP (4 GB); choose -f tiff")
    x, y = (round(d * INCH) for d in image.metadata.dpi or (0, 0))
    compression = 3 if channels == 4 else 0  # bit fields
    colours = 256 if channels == 1 else 0
    numbers = (124, width, height, 1, 8 * channels, compression, size, x, y, colours, 0)
    head = struct.pack("<IiiHHIIiiII", *numbers)
    head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000 if channels == 4 else 0)
    head += (EMBEDDED if profile else SRGB) + bytes(48)
    head += struct.pack("<IIII", 4, offset - 14 + size if profile else 0, len(profile), 0)
    file = struct.pack("<2sIHHI", b"BM", offset + size + len(profile), 0, 0, offset)
    return b"".join([file, head, table, _rows(p, stride), profile])


def _rows(p: Pixels, stride: int) -> bytes:
    """Bottom row first, BGR(A), rows padded to ``stride``."""
    height, width, channels = p.shape
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    out = np.zeros((height, stride), np.uint8)
    out[:, : width * channels] = p[::-1, :, order].reshape(height, -1)
    return out.tobytes()
