"""Radiance HDR read and written, BMP written, by OpenCV and without its lines on the terminal."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from upscale import icc
from upscale.errors import ImageError
from upscale.image.model import Image, Info, Pixels
from upscale.metadata import Metadata

INCH = 39.3700787  # pixels per metre of one pixel per inch
RESOLUTION = re.compile(rb"\n\n-Y (\d{1,9}) \+X (\d{1,9})\n")
RUN = 64  # most bytes that a byte of a run-length coded picture stands for
DAMAGED = "the Radiance picture is damaged or cut short; fetch it again"


@cache
def library() -> Any:
    """The module ``cv2``, silenced."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def _swapped(pixels: Pixels) -> Pixels:
    """BGR(A) to RGB(A) or back; gray as it is."""
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.shape[2]]
    return np.ascontiguousarray(pixels[:, :, order])


def _encode(pixels: Pixels, extension: str) -> bytes:
    done, out = library().imencode(extension, _swapped(pixels))
    if not done:
        raise ImageError(f"the picture cannot be written as {extension}; choose -f tiff")
    return bytes(out)


def encode_bmp(image: Image) -> bytes:
    """A picture (8 bit) to the bytes of a BMP; gray with alpha as RGB."""
    pixels = image.pixels[:, :, [0, 0, 0, 1]] if image.pixels.shape[2] == 2 else image.pixels
    data = _encode(pixels, ".bmp")
    resolution = struct.pack("<ii", *(round(d * INCH) for d in image.metadata.dpi or (0, 0)))
    return data[:38] + resolution + data[46:]


def look_hdr(data: bytes) -> tuple[Info, Callable[[], Image]]:
    """What the header of a Radiance picture says, and what decodes it to linear light.

    Raises:
        ImageError: Damaged, turned, or promising more pixels than the file can hold; the decoder:
            damaged or cut short.
    """
    found = RESOLUTION.search(data, 0, 65536)
    if found is None or b"FORMAT=32-bit_rle_xyze" in data[: found.start()]:
        raise ImageError(
            "the Radiance header is damaged, turned, or in XYZ; save the picture upright and in RGB"
        )
    width, height = int(found[2]), int(found[1])
    if width * height * 4 > (len(data) - found.end()) * RUN:
        raise ImageError(DAMAGED)
    profile = icc.build("Linear sRGB", curve=(1.0,))
    info = Info("hdr", width, height, 32, 3, metadata=Metadata("hdr", icc=profile))
    return info, lambda: _decode_hdr(data, info)


def _decode_hdr(data: bytes, info: Info) -> Image:
    cv2 = library()
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        found = None
    if found is None or found.shape != (info.height, info.width, 3):
        raise ImageError(DAMAGED)
    return Image(_swapped(found), info.metadata)


def encode_hdr(image: Image) -> bytes:
    """A linear float32 picture (H, W, 3) to the bytes of a Radiance picture; 8 bits of precision.

    Negative light becomes 0.
    """
    return _encode(np.maximum(image.pixels, 0), ".hdr")
