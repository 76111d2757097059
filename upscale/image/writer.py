"""Pictures out: ``create`` says what a format cannot hold, then takes rows from top to bottom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from upscale.image.codec import encode
from upscale.image.fit import check_output, losses
from upscale.image.model import Image, Metadata, Pixels
from upscale.image.rows import CAN_WRITE_ROWS, write_rows
from upscale.image.rows.cut import of_height

Shape = tuple[int, int, int]  # height, width, channels


@dataclass(frozen=True)
class Writer:
    """A picture that is to be written.

    Attributes:
        format: A key of ``FORMATS``.
        shape: Height, width, and channels (1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha).
        dtype: Of the rows that are given: uint8, uint16 or float32.
        metadata: As given; fitted to the format when written.
        losses: What the format cannot hold and will be left out or changed, one sentence each.
    """

    file: BinaryIO = field(repr=False)
    format: str
    shape: Shape
    dtype: np.dtype[Any]
    metadata: Metadata
    losses: tuple[str, ...]
    options: dict[str, Any] = field(repr=False)

    def write(self, rows: Iterable[Pixels]) -> None:
        """Write the picture. The same rows give the same bytes, however they are cut.

        Args:
            rows: Strips (h, W, C) from top to bottom, in any heights.

        Raises:
            ImageError: The format cannot hold what the rows hold.
            ValueError: ``rows`` are not of ``shape`` and ``dtype``, in their sum or each.
            OSError: The file cannot be written.
        """
        if self.format in CAN_WRITE_ROWS and not self._is_changed:
            write_rows(self.file, self.format, self.shape, self.dtype, self.metadata, rows)
            return
        (pixels,) = of_height(rows, self.shape, self.dtype, self.shape[0])
        self.file.write(encode(Image(pixels, self.metadata), self.format, **self.options))

    @property
    def _is_changed(self) -> bool:
        deep = self.format == "png" and self.dtype == np.float32
        return bool(deep or self.metadata.cmyk or self.options["palette"])


def create(
    file: BinaryIO,
    format: str,  # noqa: A002 - the name of the option
    shape: Shape,
    dtype: Any,
    metadata: Metadata = Metadata(),  # noqa: B008 - frozen
    *,
    quality: int | None = None,
    lossless: bool = False,
    background: str | None = None,
    palette: bool = False,
) -> Writer:
    """Prepare to write a picture.

    Args:
        file: Empty, opened for writing in binary, seekable.
        format: A key of ``FORMATS``, an extension, or a path.
        shape: Height, width, channels (1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha).
        dtype: Of the rows that will be given: uint8, uint16 or float32.
        metadata: What travels with the pixels.
        quality: 1 to 100; None: the format's default.
        lossless: Write WebP or JPEG XL without loss.
        background: A colour ("white", "#rrggbb") to put under alpha where the format holds none.
            Without it, a pixel that is not opaque is an error when it comes.
        palette: Write a PNG of 256 colours.

    Raises:
        ImageError: The format cannot hold the picture.
        UsageError: The options do not fit the format.
    """
    kind = check_output(
        format, shape[1], shape[0], background=background, quality=quality, lossless=lossless
    )
    dtype = np.dtype(dtype)
    lost = losses(Image(np.zeros((1, 1, shape[2]), dtype), metadata), kind.name)
    options = {
        "quality": quality,
        "lossless": lossless,
        "background": background,
        "palette": palette,
    }
    return Writer(file, kind.name, shape, dtype, metadata, lost, options)
