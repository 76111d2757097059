"""BMP: read by Pillow; written here, as the version 5 header alone holds alpha and a profile."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import BmpImagePlugin

from upscale.errors import ImageError
from upscale.image.model import Image, Info, Metadata, Pixels, check_size

SRGB = 0x73524742  # "sRGB"
INCH = 39.3700787  # pixels per metre of one pixel per inch


def probe(data: bytes) -> Info:
    """What the header says."""
    if len(data) < 26:
        raise ImageError("the BMP is cut short inside its header; fetch it again")
    size = int.from_bytes(data[14:18], "little")
    if size == 12:
        width, height, _, bits = struct.unpack("<HHHH", data[18:26])
    else:
        width, height, _, bits = struct.unpack("<iiHH", data[18:30])
    return Info("bmp", width, abs(height), 8, 4 if bits == 32 else 3, metadata=Metadata("bmp"))


def decode(data: bytes, max_pixels: int) -> Image:
    """Bytes of a BMP to a picture.

    Raises:
        ImageError: Damaged, truncated, or larger than ``max_pixels``.
    """
    info = probe(data)
    check_size(info.width, info.height, max_pixels)
    try:
        with BmpImagePlugin.BmpImageFile(io.BytesIO(data)) as picture:
            picture.load()
            palette = picture.mode == "P"
            bilevel = picture.mode == "1"
            if palette:
                picture = picture.convert("RGB")
            elif bilevel:
                picture = picture.convert("L")
            pixels = np.array(picture)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise ImageError("the BMP is damaged or cut short; fetch it again") from error
    metadata = Metadata("bmp", palette=palette, bilevel=bilevel)
    return Image(pixels if pixels.ndim == 3 else pixels[:, :, None], metadata)


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
    if offset + size >= 2**32:
        raise ImageError(f"{width} x {height} does not fit in a BMP (4 GB); choose -f tiff")
    x, y = (round(d * INCH) for d in image.metadata.dpi or (0, 0))
    compression = 3 if channels == 4 else 0  # bit fields
    head = struct.pack(
        "<IiiHHIIiiII",
        124,
        width,
        height,
        1,
        8 * channels,
        compression,
        size,
        x,
        y,
        256 if channels == 1 else 0,
        0,
    )
    masks = struct.pack("<IIIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000 if channels == 4 else 0, SRGB)
    head += masks + bytes(48) + struct.pack("<IIII", 4, 0, 0, 0)
    file = struct.pack("<2sIHHI", b"BM", offset + size, 0, 0, offset)
    return b"".join([file, head, table, _rows(p, stride)])


def _rows(p: Pixels, stride: int) -> bytes:
    """Bottom row first, BGR(A), rows padded to ``stride``."""
    height, width, channels = p.shape
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    out = np.zeros((height, stride), np.uint8)
    out[:, : width * channels] = p[::-1, :, order].reshape(height, -1)
    return out.tobytes()
