"""The pixels of a picture, given by rows: it need never be whole in memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from upscale.image import Image, Metadata, Pixels, RowReader

BLOCK_BYTES = 1 << 22  # of a piece, where a picture is gone through


class Cursor(Protocol):
    """A place in a picture that moves from top to bottom."""

    def leave(self, row: int) -> None:
        """Rows above ``row`` are not asked for any more."""

    def rows(self, first: int, last: int) -> Pixels:
        """Rows [first, last), (last - first, W, C), none of them above those that were left."""


class PixelSource(Protocol):
    """A picture that gives its rows to several readers, each at its own place.

    Attributes:
        shape: Height, width, channels.
        dtype: uint8, uint16 or float32.
        metadata: Profile, EXIF and the rest.
        is_sound: The pixels are known to be whole; else that shows when they are read.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    metadata: Metadata
    is_sound: bool

    def cursor(self) -> Cursor:
        """A new place, at the top; all are asked for before the first row is read."""

    def blocks(self) -> Iterator[Pixels]:
        """The whole picture once, in pieces of some rows, beside the cursors."""


class ImagePixels:
    """A picture that is whole in memory."""

    is_sound = True

    def __init__(self, image: Image) -> None:
        self._pixels = image.pixels
        height, width, channels = image.pixels.shape
        self.shape = (int(height), int(width), int(channels))
        self.dtype = image.pixels.dtype
        self.metadata = image.metadata

    def cursor(self) -> Cursor:
        """The picture itself: it gives any rows."""
        return self

    def leave(self, row: int) -> None:
        """All rows stay."""

    def rows(self, first: int, last: int) -> Pixels:
        """A view of rows [first, last)."""
        return self._pixels[first:last]

    def blocks(self) -> Iterator[Pixels]:
        """Views of some rows each."""
        tall = max(1, BLOCK_BYTES // self._pixels[0].nbytes)
        for top in range(0, self.shape[0], tall):
            yield self._pixels[top : top + tall]


class FilePixels:
    """A picture file: of its rows, only those between the first and the last cursor are held."""

    is_sound = False

    def __init__(self, reader: RowReader) -> None:
        self._reader = reader
        self.shape = (reader.height, reader.width, reader.channels)
        self.dtype = reader.dtype
        self.metadata = reader.metadata
        self._cursors: list[_FileCursor] = []
        self._held: deque[tuple[int, Pixels]] = deque()  # first row and rows
        self._end = 0
        self._coming: Iterator[Pixels] | None = None
        self._lock = threading.Lock()  # the network may read in another thread than merge

    def cursor(self) -> Cursor:
        """A new place, at the top."""
        self._cursors.append(_FileCursor(self))
        return self._cursors[-1]

    def blocks(self) -> Iterator[Pixels]:
        """The whole file once."""
        return self._reader.rows()

    def forget(self) -> None:
        """Let go of the rows above all cursors."""
        with self._lock:
            lowest = min(cursor.first for cursor in self._cursors)
            while self._held and self._held[0][0] + len(self._held[0][1]) <= lowest:
                self._held.popleft()

    def take(self, first: int, last: int) -> Pixels:
        """Rows [first, last) for a cursor; the file is read as far as they go."""
        with self._lock:
            return self._take(first, last)

    def _take(self, first: int, last: int) -> Pixels:
        if self._coming is None:
            self._coming = self._reader.rows()
        while self._end < last:
            rows = next(self._coming)
            self._held.append((self._end, rows))
            self._end += len(rows)
        parts = [
            rows[max(0, first - top) : last - top]
            for top, rows in self._held
            if top < last and top + len(rows) > first
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _FileCursor:
    """A place in a file."""

    def __init__(self, pixels: FilePixels) -> None:
        self._pixels = pixels
        self.first = 0

    def leave(self, row: int) -> None:
        """Move to ``row``; rows above all places are forgotten."""
        if row > self.first:
            self.first = row
            self._pixels.forget()

    def rows(self, first: int, last: int) -> Pixels:
        """Rows [first, last).

        Raises:
            ValueError: They were left.
        """
        if first < self.first:
            raise ValueError(f"row {first} is asked for and those above {self.first} were left")
        return self._pixels.take(first, last)
