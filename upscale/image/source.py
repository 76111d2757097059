"""The bytes of a picture: where they come from, what is known of them, how libvips reads them."""

from __future__ import annotations

import io
import os
import threading
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO

from upscale.errors import ImageError
from upscale.metadata import Metadata
from upscale.metadata.data import Data, FileData

Source = bytes | str | os.PathLike[str]  # the bytes of a file, or its path
Pieces = tuple[bytes | slice, ...]  # bytes, and parts of a file, one behind the other
ALL: Pieces = (slice(0, None),)


@contextmanager
def data_of(source: Source) -> Iterator[Data]:
    """The bytes of a picture, for as long as the context lasts.

    Raises:
        OSError: The file cannot be read.
    """
    if isinstance(source, bytes):
        yield source
        return
    with open(source, "rb") as file:  # noqa: PTH123 - a path of any bytes
        yield FileData(file)


@contextmanager
def stream_of(source: Source) -> Iterator[BinaryIO]:
    """The bytes of a picture as a file that is read from its start.

    Raises:
        OSError: It cannot be read.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:  # noqa: PTH123 - a path of any bytes
        yield file


@dataclass(frozen=True)
class Header:
    """What was read before libvips is asked.

    Attributes:
        metadata: As they stand in the file: not yet turned upright.
        size: Width and height as the file promises them; ``None``: libvips is asked.
        pieces: The parts of the file that make its pixels, which libvips is given.
        kind: In words what the picture is stored as, for example "CMYK", "4:2:0".
        frames: How many pictures there are in the file.
        spare: Rows that the pieces promise below the last one of the picture.
        unlimited: The decoder may allocate as much as the header asks for, which was checked.
    """

    metadata: Metadata
    size: tuple[int, int] | None = None
    pieces: Pieces = ALL
    kind: str = ""
    frames: int = 1
    spare: int = 0
    unlimited: bool = False


class Stream:
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
                    found = part[start : start + size]
                else:
                    first = part[0] + start
                    found = self._data[first : min(first + size, part[1])]
            except (ImageError, OSError, ValueError) as error:  # ValueError: the file is closed
                self.error = error
                return None
            self._at += len(found)
            return found

    def seek(self, offset: int, whence: int) -> int:
        """Go to a place; the new place."""
        with self._lock:
            self._at = max(0, offset + {0: 0, 1: self._at, 2: self._starts[-1]}[whence])
            return self._at
