"""Rows in strips of any height, checked and cut anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from upscale.image.model import Pixels


def of_height(
    rows: Iterable[Pixels], shape: tuple[int, int, int], dtype: np.dtype[Any], tall: int
) -> Iterator[Pixels]:
    """Yield the rows of a picture ``tall`` at a time, fewer at the bottom; each array is new.

    Args:
        rows: Strips (h, W, C) from top to bottom, in any heights.
        shape: Height, width and channels of the picture.
        dtype: Of the samples.
        tall: Rows to give at a time.

    Raises:
        ValueError: A strip of another width, count of channels or dtype, or not as many rows as
            ``shape`` says.
    """
    height, *rest = shape
    top = filled = 0  # rows given, and rows waiting in ``held``
    held = np.empty((min(tall, height), *rest), dtype)
    for strip in rows:
        if strip.ndim != 3 or [*strip.shape[1:]] != rest or strip.dtype != dtype:
            raise ValueError(f"a strip {strip.shape} of {strip.dtype} for {shape} of {dtype}")
        if top + filled + len(strip) > height:
            raise ValueError(f"{top + filled + len(strip)} rows, and not {height}")
        at = 0
        while at < len(strip):
            count = min(len(held) - filled, len(strip) - at)
            held[filled : filled + count] = strip[at : at + count]
            filled, at = filled + count, at + count
            if filled == len(held):
                yield held
                top, filled = top + filled, 0
                held = np.empty((min(tall, height - top), *rest), dtype)
    if top != height:
        raise ValueError(f"{top + filled} rows, and not {height}")
