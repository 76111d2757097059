"""TIFF by rows: the same segments as for a picture read whole, from the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from upscale.image import tiff_pixels
from upscale.image.codec import check_values, settled
from upscale.image.data import Data, FileData
from upscale.image.model import Pixels, check_size
from upscale.image.rows.reader import RowReader
from upscale.image.tiff import Picture, picture_of, read_page
from upscale.image.tiff_pixels import Layout


def open_tiff(
    data: Data, path: str | os.PathLike[str], assume_icc: bytes | None
) -> RowReader | None:
    """The reader of a TIFF; ``None``: RAW, several pages, CMYK, turned, or one large fax or JPEG.

    Raises:
        ImageError: Damaged, cut short, or stored in a way that is not supported.
    """
    page = read_page(data)
    if page.raw or page.pages > 1:
        return None
    picture = picture_of(page)
    layout = picture.layout
    check_size(layout.width, layout.height, layout.width * layout.height)
    tiff_pixels.check(layout)
    if layout.photometric == tiff_pixels.CMYK or not tiff_pixels.is_streamable(layout):
        return None
    metadata = settled(picture.metadata, picture.channels <= 2, assume_icc)
    if metadata.orientation != 1:
        return None
    alone = replace(picture, layout=_on(layout, b""))  # without the file, which is closed
    return RowReader(
        "tiff",
        layout.height,
        layout.width,
        picture.channels,
        layout.decoded,
        metadata,
        partial(_rows, alone, path),
    )


def _on(layout: Layout, data: Data) -> Layout:
    """The layout of the same file, opened anew."""
    return replace(layout, block=replace(layout.block, data=data))


def _rows(picture: Picture, path: str | os.PathLike[str]) -> Iterator[Pixels]:
    with FileData(path) as data:
        layout = _on(picture.layout, data)
        tiff_pixels.check(layout)
        top = 0
        for band in tiff_pixels.bands(layout):
            if band.dtype == np.float32:
                with np.errstate(all="ignore"):  # not around the yield: others run meanwhile
                    check_values(band, top)
            top += len(band)
            yield picture.coloured(band)
