"""What a picture read by rows is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from upscale.image.model import Metadata, Pixels


@dataclass(frozen=True)
class RowReader:
    """A picture in a file, upright, whose pixels can be read from top to bottom.

    Attributes:
        format: A key of ``FORMATS``.
        height: Rows.
        width: Columns.
        channels: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
        dtype: uint8, uint16 or float32.
        metadata: As ``decode`` gives them.
    """

    format: str
    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]
    metadata: Metadata
    start: Callable[[], Iterator[Pixels]] = field(repr=False, compare=False)

    def rows(self) -> Iterator[Pixels]:
        """Yield the pixels, (h, W, C) in any heights; each call reads the file from the start.

        Raises:
            ImageError: Damaged or cut short.
            OSError: The file cannot be read.
        """
        return self.start()
