"""The bytes of a file: in memory, or read from the disk when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from upscale.errors import ImageError

REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


class Data(Protocol):
    """What all readers of structure need of a file; ``bytes`` are such data."""

    def __len__(self) -> int:
        """Bytes in all."""

    def __getitem__(self, part: slice, /) -> bytes:
        """A part of them, cut at the end as with ``bytes``."""


class FileData:
    """The bytes of a file on the disk, read piece by piece; a context manager.

    Nothing is mapped into memory: a file that gets shorter meanwhile is an error, and not the end
    of the process. Not for several threads at once.

    Raises:
        OSError: The file cannot be opened or read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open(path, "rb")  # noqa: SIM115, PTH123 - closed by __exit__
        self._length = self._file.seek(0, os.SEEK_END)

    def __enter__(self) -> FileData:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice, /) -> bytes:
        """Bytes ``part`` of the file.

        Raises:
            ImageError: The file has become shorter.
            OSError: It cannot be read.
        """
        start, stop, _ = part.indices(self._length)
        want = max(0, stop - start)
        self._file.seek(start)
        found = self._file.read(want)
        if len(found) != want:
            raise ImageError("the file became shorter while it was read; run again")
        return found


@dataclass(frozen=True)
class Part:
    """Some of the bytes of other data; ``reverse``: the bits of every byte the other way round."""

    data: Data
    start: int
    length: int
    reverse: bool = False

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self.length)
        found = self.data[self.start + start : self.start + max(start, stop)]
        return found.translate(REVERSED) if self.reverse else found


def cut(found: Iterable[bytes], want: int, step: int) -> Generator[bytes, None, int]:
    """Cut bytes that come in pieces of any length anew.

    Args:
        found: The pieces; it is not asked for more than ``want`` needs.
        want: Bytes to give in all.
        step: Bytes to give at a time; the last time what is left.

    Returns:
        How many bytes are missing at the end.
    """
    held, left = bytearray(), want
    for piece in found:
        if not held and len(piece) == min(step, left):
            left -= len(piece)
            yield piece
        else:
            held += piece
        while left and len(held) >= min(step, left):
            size = min(step, left)
            left -= size
            yield bytes(held[:size])
            del held[:size]
        if not left:
            return 0
    return left - len(held)
