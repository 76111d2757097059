"""libvips, called in one way: loaders by name, any warning an error, no threads beside ours."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from upscale.errors import ImageError
from upscale.image.model import Pixels
from upscale.image.source import Header, Stream
from upscale.metadata.data import Data

LOADERS = {  # libvips does not guess; its other loaders (SVG, PDF, CSV ...) are never called
    "png": "pngload_source",
    "jpeg": "jpegload_source",
    "tiff": "tiffload_source",
    "avif": "heifload_source",
    "gif": "gifload_source",
}
DTYPES = {"uchar": "u1", "ushort": "u2", "float": "f4"}
BAND, MOST_ROWS = 1 << 20, 64  # bytes and rows that are decoded at a time: damage costs no more


@cache
def library() -> Any:
    """The module ``pyvips``, set up and silent: what is wrong with a file is said by an error.

    Rows are fetched in the caller's thread, and a saver needs one worker: more would fight the
    network for the cores. Nothing is cached, so that a file which changes is read again.
    """
    os.environ.setdefault("VIPS_WARNING", "1")  # which turns them off, also at the very end
    logging.getLogger("pyvips").setLevel(logging.CRITICAL)
    import pyvips

    pyvips.cache_set_max(0)
    pyvips.vips_lib.vips_concurrency_set(1)
    pyvips.vips_lib.vips_block_untrusted_set(1)
    return pyvips


@contextmanager
def opened(name: str, data: Data, header: Header) -> Iterator[Any]:
    """A picture of which the header is read.

    Args:
        name: A key of ``LOADERS``.
        data: The bytes of the file.
        header: What of them the loader is to see, and what it may do.

    Raises:
        ImageError: Damaged, cut short, or of a kind that libvips does not read; inside the context
            too.
        OSError: The file cannot be read.
    """
    vips = library()
    stream = Stream(data, header.pieces)
    source = vips.SourceCustom()  # must outlive the picture
    source.on_read(stream.read)
    source.on_seek(stream.seek)
    options = {"unlimited": True} if header.unlimited else {}
    try:
        loader = getattr(vips.Image, LOADERS[name])
        yield loader(source, access="sequential", fail_on="warning", **options)
    except vips.Error as error:
        raise (
            stream.error
            or ImageError(f"the {name.upper()} is damaged or cut short; fetch or save it again")
        ) from error


def dtype_of(picture: Any) -> np.dtype[Any]:
    """Of the samples; ``ImageError`` for those that are none of a picture here."""
    if picture.format not in DTYPES:
        raise ImageError(
            f"samples of kind {picture.format} are no picture here; convert it to 8 or 16 bits"
        )
    return np.dtype(DTYPES[picture.format])


def rows(picture: Any, height: int) -> Iterator[Pixels]:
    """The first ``height`` rows of an opened picture, (h, W, bands), from top to bottom."""
    dtype, width, bands = dtype_of(picture), picture.width, picture.bands
    region = library().Region.new(picture)
    tall = max(1, min(MOST_ROWS, BAND // (width * bands * dtype.itemsize)))
    for top in range(0, height, tall):
        found = region.fetch(0, top, width, min(tall, height - top))
        if top + tall >= height and picture.height > height:
            region.fetch(0, picture.height - 1, width, 1)  # where warnings of the last rows show
        yield np.frombuffer(found, dtype).reshape(-1, width, bands)


def field(picture: Any, name: str) -> Any:
    """A field of the header, ``None`` where it has none of that name."""
    return picture.get(name) if picture.get_typeof(name) else None
