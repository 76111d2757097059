"""Which pictures can be read by rows, straight from the file."""

from __future__ import annotations

import os

from upscale.image.data import FileData
from upscale.image.identify import identify
from upscale.image.rows.read_jpeg import open_jpeg
from upscale.image.rows.read_png import open_png
from upscale.image.rows.read_tiff import open_tiff
from upscale.image.rows.reader import RowReader

HEAD = 4096  # bytes that tell the format
OPENERS = {"tiff": open_tiff, "png": open_png, "jpeg": open_jpeg}


def open_rows(path: str | os.PathLike[str], *, assume_icc: bytes | None = None) -> RowReader | None:
    """Look into a file for its rows.

    Args:
        path: The file.
        assume_icc: The ICC profile of a picture that carries none.

    Returns:
        The reader; ``None`` for a picture that can only be decoded whole, or not at all.

    Raises:
        ImageError: No picture, damaged as its structure shows, or stored in an unsupported way.
        OSError: The file cannot be read.
    """
    with FileData(path) as data:
        opener = OPENERS.get(identify(data[:HEAD]))
        return opener(data, path, assume_icc) if opener else None
