"""Radiance HDR read and written by OpenCV, without its lines on the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from upscale import icc
from upscale.errors import ImageError
from upscale.image.metadata import Metadata
from upscale.image.model import Image, Info, Pixels

RESOLUTION = re.compile(rb"\n[ \t]*\r?\n[ \t]*-Y\s+(\d{1,9})\s+\+X\s+(\d{1,9})[ \t]*\r?\n")
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


def encoded(pixels: Pixels, extension: str) -> bytes:
    """Pixels (H, W, C) to the file that OpenCV writes for an extension."""
    done, out = library().imencode(extension, _swapped(pixels))
    if not done:
        raise ImageError(f"the picture cannot be written as {extension}; choose -f tiff")
    return bytes(out)


def look(data: bytes) -> tuple[Info, Callable[[], Image]]:
    """What the header of a Radiance picture says, and what decodes it to linear light.

    Raises:
        ImageError: Damaged, turned, or promising more pixels than the file can hold; the decoder:
            damaged or cut short.
    """
    line = RESOLUTION.search(data, 0, 65536)
    if line is None or b"FORMAT=32-bit_rle_xyze" in data[: line.start()]:
        raise ImageError(
            "the Radiance header is damaged, turned, or in XYZ; save the picture upright and in RGB"
        )
    width, height = int(line[2]), int(line[1])
    if width * height * 4 > (len(data) - line.end()) * RUN:
        raise ImageError(DAMAGED)
    profile = icc.build("Linear sRGB", curve=(1.0,))
    info = Info("hdr", width, height, 32, 3, metadata=Metadata("hdr", icc=profile))
    # OpenCV knows one way to write a header.
    plain = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n" + f"-Y {height} +X {width}\n".encode()
    return info, lambda: _decode(plain + data[line.end() :], info)


def _decode(data: bytes, info: Info) -> Image:
    cv2 = library()
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.shape != (info.height, info.width, 3):
        raise ImageError(DAMAGED)
    return Image(_swapped(pixels), info.metadata)


def encode(image: Image) -> bytes:
    """A linear float32 picture (H, W, 3) to the bytes of a Radiance picture; 8 bits of precision.

    Negative light becomes 0.
    """
    return encoded(np.maximum(image.pixels, 0), ".hdr")
