"""OpenCV's codecs in memory, without their lines on the terminal."""

from __future__ import annotations

import cv2
import numpy as np

from upscale.errors import ImageError
from upscale.image.model import Pixels

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

RGB_OF = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}  # each is its own inverse


def swapped(pixels: Pixels) -> Pixels:
    """BGR(A) to RGB(A) or back; gray as it is. (H, W) becomes (H, W, 1)."""
    if pixels.ndim == 2:
        return pixels[:, :, None]
    if pixels.shape[2] not in RGB_OF:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, RGB_OF[pixels.shape[2]]))


def decode(data: bytes, height: int, width: int, name: str) -> Pixels:
    """Decode a file to (H, W, C) in RGB order, at its own depth and in its own orientation.

    Raises:
        ImageError: The decoder refuses it, or gives another size.
    """
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        found = None
    if found is None or found.shape[:2] != (height, width):
        raise ImageError(f"the {name} is damaged: its decoder refuses it; save the picture again")
    return swapped(found)


def encode(pixels: Pixels, extension: str, options: list[int]) -> bytes:
    """Encode (H, W, C) in RGB order as the format of an extension.

    Raises:
        ImageError: The encoder refuses it.
    """
    height, width = pixels.shape[:2]
    try:
        done, out = cv2.imencode(extension, swapped(pixels), options)
    except cv2.error:
        done = False
    if not done:
        raise ImageError(f"{width} x {height} cannot be written as {extension}; choose -f tiff")
    return bytes(out)
