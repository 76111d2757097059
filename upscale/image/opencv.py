"""BMP and Radiance HDR, by OpenCV in memory and without its lines on the terminal."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from upscale import icc
from upscale.errors import ImageError
from upscale.image.model import Image, Info, Metadata, Pixels

INCH = 39.3700787  # pixels per metre of one pixel per inch
RESOLUTION = re.compile(rb"\n\n-Y (\d{1,9}) \+X (\d{1,9})\n")
RUN = 64  # most that a byte of a run-length coded picture stands for


@cache
def library() -> Any:
    """The module ``cv2``, silenced."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def _decode(data: bytes, info: Info) -> Pixels:
    """The pixels, (H, W, C) in RGB order.

    Raises:
        ImageError: OpenCV refuses the file, or gives another size.
    """
    cv2 = library()
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        found = None
    if found is None or found.shape[:2] != (info.height, info.width):
        raise ImageError(f"the {info.format.upper()} is damaged; save the picture again")
    return _swapped(found if found.ndim == 3 else found[:, :, None])


def _swapped(pixels: Pixels) -> Pixels:
    """BGR(A) to RGB(A) or back; gray as it is."""
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.shape[2]]
    return np.ascontiguousarray(pixels[:, :, order])


def _encode(pixels: Pixels, extension: str) -> bytes:
    done, out = library().imencode(extension, _swapped(pixels))
    if not done:
        size = f"{pixels.shape[1]} x {pixels.shape[0]}"
        raise ImageError(f"{size} cannot be written as {extension}; choose -f tiff")
    return bytes(out)


def probe_bmp(data: bytes) -> Info:
    """What the header of a BMP says.

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
    metadata = Metadata("bmp", dpi=dpi, palette=1 < bits <= 8, bilevel=bits == 1)
    kind = "palette" if bits <= 8 else ""
    return Info("bmp", width, height, 8, 4 if bits == 32 else 3, kind=kind, metadata=metadata)


def decode_bmp(data: bytes) -> Image:
    """Bytes of a BMP to a picture.

    Raises:
        ImageError: Damaged or cut short.
    """
    info = probe_bmp(data)
    pixels = _decode(data, info)
    return Image(
        pixels, replace(info.metadata, palette=info.metadata.palette and pixels.shape[2] > 1)
    )


def encode_bmp(image: Image) -> bytes:
    """A picture (8 bit) to the bytes of a BMP."""
    pixels = image.pixels[:, :, [0, 0, 0, 1]] if image.pixels.shape[2] == 2 else image.pixels
    data = _encode(pixels, ".bmp")
    resolution = struct.pack("<ii", *(round(d * INCH) for d in image.metadata.dpi or (0, 0)))
    return data[:38] + resolution + data[46:]


def probe_hdr(data: bytes) -> Info:
    """What the header of a Radiance picture says."""
    found = RESOLUTION.search(data, 0, 65536)
    if found is None or b"FORMAT=32-bit_rle_xyze" in data[: found.start()]:
        raise ImageError(
            "the Radiance header is damaged, turned, or in XYZ; save the picture upright and in RGB"
        )
    width, height = int(found[2]), int(found[1])
    if width * height * 4 > (len(data) - found.end()) * RUN:
        raise ImageError("the Radiance picture is damaged or cut short; fetch it again")
    profile = icc.build("Linear sRGB", curve=(1.0,))
    return Info("hdr", width, height, 32, 3, metadata=Metadata("hdr", icc=profile))


def decode_hdr(data: bytes) -> Image:
    """Bytes of a Radiance picture to a picture in linear light.

    Raises:
        ImageError: Damaged or cut short.
    """
    info = probe_hdr(data)
    return Image(_decode(data, info), info.metadata)


def encode_hdr(image: Image) -> bytes:
    """A linear float32 picture (H, W, 3) to the bytes of a Radiance picture; 8 bits of precision.

    Negative light becomes 0.
    """
    return _encode(np.maximum(image.pixels, 0), ".hdr")
