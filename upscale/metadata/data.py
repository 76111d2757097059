"""The bytes of a file, as those see them who read its structure."""

from __future__ import annotations

import os
from typing import BinaryIO, Protocol

from upscale.errors import ImageError


class Data(Protocol):
    """What all readers of structure need of a file; ``bytes`` are such data."""

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
        want = max(0, stop - start)
        self._file.seek(start)
        found = self._file.read(want)
        if len(found) != want:
            raise ImageError("the file became shorter while it was read; run again")
        return found
