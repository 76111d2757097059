"""Pictures in: ``open`` knows a picture by its header and gives its rows from top to bottom."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from upscale.image.codec import decode
from upscale.image.model import MAX_PIXELS, Image, Metadata, Pixels, check_size
from upscale.image.rows import open_rows

BAND = 1 << 22  # bytes of the rows that are given at a time, about


@dataclass(frozen=True)
class Reader:
    """A picture, upright, whose pixels can be read from top to bottom, more than once.

    Attributes:
        format: A key of ``FORMATS``.
        height: Rows.
        width: Columns.
        channels: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
        dtype: uint8, uint16 or float32.
        metadata: As ``Image`` has them.
    """

    format: str
    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]
    metadata: Metadata
    start: Callable[[], Iterator[Pixels]] = field(repr=False, compare=False)

    def rows(self) -> Iterator[Pixels]:
        """Yield the pixels, (h, W, C) in any heights; each call reads from the start.

        Raises:
            ImageError: Damaged or cut short.
            OSError: The file cannot be read.
        """
        return self.start()

    def read(self) -> Image:
        """The whole picture.

        Raises:
            ImageError: Damaged or cut short.
            OSError: The file cannot be read.
        """
        strips = list(self.rows())
        return Image(strips[0] if len(strips) == 1 else np.concatenate(strips), self.metadata)

    def in_memory(self) -> Reader:
        """The same picture, decoded now; its rows come from memory.

        Raises:
            ImageError: Damaged or cut short.
            OSError: The file cannot be read.
        """
        return of_image(self.read())


@dataclass(frozen=True, eq=False)
class _Memory:
    """The rows of a picture in memory."""

    pixels: Pixels

    def __call__(self) -> Iterator[Pixels]:
        tall = max(1, BAND // max(1, self.pixels[0].nbytes))
        for top in range(0, len(self.pixels), tall):
            yield self.pixels[top : top + tall]


def of_image(image: Image) -> Reader:
    """A picture in memory as a reader."""
    height, width, channels = (int(n) for n in image.pixels.shape)
    m, dtype = image.metadata, image.pixels.dtype
    return Reader(m.format, height, width, channels, dtype, m, _Memory(image.pixels))


def open(  # noqa: A001 - image.open, as the field calls it
    source: bytes | str | os.PathLike[str],
    *,
    max_pixels: int = MAX_PIXELS,
    assume_icc: bytes | None = None,
) -> Reader:
    """Look at a picture; its format is told by its content.

    Args:
        source: The bytes of a file, or its path.
        max_pixels: Largest width times height that is accepted.
        assume_icc: The ICC profile of a picture that carries none.

    Raises:
        ImageError: No picture, damaged as its structure shows, too large, or something that would
            be flattened.
        OSError: The file cannot be read.
    """
    if not isinstance(source, bytes):
        found = open_rows(source, assume_icc=assume_icc)
        if found is not None:
            check_size(found.width, found.height, max_pixels)
            size = (found.height, found.width, found.channels)
            return Reader(found.format, *size, found.dtype, found.metadata, found.start)
        source = Path(source).read_bytes()
    return of_image(decode(source, max_pixels=max_pixels, assume_icc=assume_icc))
