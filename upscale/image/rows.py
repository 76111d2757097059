"""The former names of ``open`` and ``create`` for rows; they go with their last callers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np

from upscale.image.model import Pixels
from upscale.image.reader import Reader, open  # noqa: A004
from upscale.image.writer import create
from upscale.metadata import Metadata

RowReader = Reader
CAN_WRITE_ROWS = frozenset({"tiff", "png"})


def open_rows(path: str | os.PathLike[str], *, assume_icc: bytes | None = None) -> Reader | None:
    """``open``, for rows."""
    return open(path, max_pixels=2**62, assume_icc=assume_icc)


def write_rows(
    file: BinaryIO,
    format: str,  # noqa: A002
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    metadata: Metadata,
    rows: Iterable[Pixels],
) -> None:
    """``create`` and ``write``."""
    create(file, format, shape, dtype, metadata).write(rows)
