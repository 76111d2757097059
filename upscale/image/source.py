"""The bytes of a picture: where they come from, and what of them a decoder is given."""

from __future__ import annotations

import io
import os
import threading
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import BinaryIO, Protocol

from upscale.errors import ImageError

Source = bytes | bytearray | memoryview | str | os.PathLike[str]  # a file's bytes, or its path
SOURCES = (bytes, bytearray, memoryview, str, os.PathLike)
Pieces = tuple[bytes | slice, ...]  # bytes, and parts of a file, one behind the other
ALL: Pieces = (slice(0, None),)


class Data(Protocol):
    """The bytes of a file, as those need them who read its structure; ``bytes`` are such data."""

    def __len__(self) -> int:
        """Bytes in all."""

    def __getitem__(self, part: slice, /) -> bytes:
        """A part of them, cut at the end as with ``bytes``."""


class FileData:
    """The bytes of a file on the disk.

    Nothing is mapped into memory: a file that gets shorter meanwhile is an error, and not the end
    of the process. Not for several threads at once.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._length = file.seek(0, os.SEEK_END)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice, /) -> bytes:
        """Bytes ``part`` of the file.

        Raises:
            ImageError: The file has become shorter.
            OSError: It cannot be read.
        """
        start, stop, _ = part.indices(self._length)
        size = max(0, stop - start)
        self._file.seek(start)
        data = self._file.read(size)
        if len(data) != size:
            raise ImageError("the file became shorter while it was read; run again")
        return data


@contextmanager
def data_of(source: Source) -> Iterator[Data]:
    """The bytes of a picture, for as long as the context lasts.

    Raises:
        OSError: The file cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        yield bytes(source)
        return
    with open(source, "rb") as file:  # noqa: PTH123 - a path of any bytes
        yield FileData(file)


@contextmanager
def stream_of(source: Source) -> Iterator[BinaryIO]:
    """The bytes of a picture as a file that is read from its start.

    Raises:
        OSError: It cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
        return
    with open(source, "rb") as file:  # noqa: PTH123 - a path of any bytes
        yield file


class Joined:
    """A file put together of pieces of another one, with the calls that libvips makes.

    libvips may read in threads of its own, and nothing may be raised into it: an error waits in
    ``error``, and the file seems to end.
    """

    def __init__(self, data: Data, pieces: Pieces = ALL) -> None:
        self.error: BaseException | None = None
        self._data, self._at, self._lock = data, 0, threading.Lock()
        self._parts = [p.indices(len(data))[:2] if isinstance(p, slice) else p for p in pieces]
        sizes = [len(p) if isinstance(p, bytes) else p[1] - p[0] for p in self._parts]
        self._starts = [0, *accumulate(sizes)]

    def read(self, size: int) -> bytes | None:
        """Up to ``size`` bytes; ``None`` at the end, and where reading fails."""
        with self._lock:
            index = bisect_right(self._starts, self._at) - 1
            if self.error or index >= len(self._parts):
                return None
            part, start = self._parts[index], self._at - self._starts[index]
            try:
                if isinstance(part, bytes):
                    data = part[start : start + size]
                else:
                    first = part[0] + start
                    data = self._data[first : min(first + size, part[1])]
            except (ImageError, OSError, ValueError) as error:  # ValueError: the file is closed
                self.error = error
                return None
            self._at += len(data)
            return data

    def seek(self, offset: int, whence: int) -> int:
        """Go to a place; the new place."""
        with self._lock:
            self._at = max(0, offset + {0: 0, 1: self._at, 2: self._starts[-1]}[whence])
            return self._at
