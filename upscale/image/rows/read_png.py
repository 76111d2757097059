"""PNG by rows, by the decoder that reads whole pictures.

A filter looks at the row above and no further. So a band of filtered rows below one row that is
already known makes a small PNG of its own, which OpenCV decodes.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from upscale.image import opencv, png, png_write
from upscale.image.codec import settled
from upscale.image.data import Data, FileData, cut
from upscale.image.model import Pixels, check_size
from upscale.image.png_chunks import Chunks, inflated, inflated_length, parse, row_bytes
from upscale.image.rows.reader import RowReader

BAND = 1 << 21  # bytes of filtered rows that are decoded at a time, about
KINDS = {1: (8, 0), 2: (16, 0), 3: (8, 2), 4: (8, 6), 6: (16, 2), 8: (16, 6)}  # depth and colour
# type of a PNG whose pixels have so many bytes and come back as they are


def open_png(
    data: Data, path: str | os.PathLike[str], assume_icc: bytes | None
) -> RowReader | None:
    """The reader of a PNG; ``None`` where it is animated, interlaced, turned or too wide.

    Raises:
        ImageError: Damaged, cut short, or in a transfer curve that cannot be honoured.
    """
    c = parse(data)
    check_size(c.width, c.height, c.width * c.height)
    if c.interlaced or b"acTL" in c.other or c.width > png.LIBPNG_SIDE:
        return None
    one = _pixels(replace(c, width=1), np.zeros((1, row_bytes(c, 1)), np.uint8))
    channels = one.shape[2]
    metadata = settled(png.metadata_of(c), channels <= 2, assume_icc)
    if metadata.orientation != 1:
        return None
    return RowReader(
        "png", c.height, c.width, channels, one.dtype, metadata, partial(_rows, c, path)
    )


def _rows(c: Chunks, path: str | os.PathLike[str]) -> Iterator[Pixels]:
    stored = 1 + row_bytes(c, c.width)
    step = max(1, BAND // stored)
    above = np.zeros(stored - 1, np.uint8)
    with FileData(path) as data:
        found = inflated(c, data)
        for band in cut(found, inflated_length(c), step * stored):
            rows = _unfiltered(np.frombuffer(band, np.uint8).reshape(-1, stored), above, c)
            above = rows[-1].copy()
            yield _pixels(c, rows)
        for _ in found:
            pass  # to the checksum at the end


def _unfiltered(filtered: Pixels, above: Pixels, c: Chunks) -> Pixels:
    """Rows (h, 1 + bytes of a row) to their bytes; ``above`` are those of the row before."""
    size = max(1, c.channels * c.depth // 8)
    depth, colour = KINDS[size]
    height, width = len(filtered) + 1, len(above) // size
    body = b"".join([b"\0", above.tobytes(), filtered.tobytes()])
    data = png_write.chunk(b"IDAT", zlib.compress(body, 0))
    raw = png_write.file_of(png_write.header(width, height, depth, colour), [data])
    return png_write.bytes_of(opencv.decode(raw, height, width, "PNG")[1:])


def _pixels(c: Chunks, rows: Pixels) -> Pixels:
    """The bytes of rows to pixels (h, W, C)."""
    if c.depth >= 8 and c.colour != 3 and c.transparency is None:
        samples = rows if c.depth == 8 else rows.view(">u2").astype(np.uint16)
        return samples.reshape(len(rows), c.width, c.channels)
    plain = np.zeros((len(rows), 1 + rows.shape[1]), np.uint8)
    plain[:, 1:] = rows
    return png.pixels_of(replace(c, height=len(rows)), [zlib.compress(plain.tobytes(), 0)])
