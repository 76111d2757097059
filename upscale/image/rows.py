"""Rows of pixels (h, W, C): how many a strip has, turned upright, checked for numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from upscale.errors import ImageError
from upscale.image.model import Pixels, Shape
from upscale.strips import ranges

LARGEST = 1e30  # of floating-point values
STRIP = 1 << 20  # bytes of a strip, about
MOST_ROWS = 1 << 15  # of a strip, that libvips takes


def strip_rows(shape: Shape, dtype: np.dtype[Any]) -> int:
    """Rows of a strip: a multiple of 16, as JPEG codes them, of about ``STRIP`` bytes."""
    row = shape[1] * shape[2] * dtype.itemsize
    return min(max(16, STRIP // row // 16 * 16), MOST_ROWS)


def strips(pixels: Pixels) -> Iterator[Pixels]:
    """The rows of a picture in memory."""
    tall = max(1, STRIP // pixels[0].nbytes)
    for first, last in ranges(len(pixels), tall):
        yield pixels[first:last]


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn (H, W, C) as EXIF orientation 1 to 8 asks."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def check_values(pixels: Pixels, top: int = 0) -> None:
    """Refuse what is no number, and numbers with which nothing can be computed.

    Args:
        pixels: Rows (h, W, C).
        top: The row of the picture that is their first.

    Raises:
        ImageError: With the place and the value.
    """
    with np.errstate(all="ignore"):
        strange = ~(np.abs(pixels) <= LARGEST)
    if strange.any():
        y, x = np.argwhere(strange.any(2))[0]
        value = pixels[y, x][strange[y, x]][0]
        raise ImageError(f"the value at column {x}, row {top + y} is {value:g}; replace it first")
