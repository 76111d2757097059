"""Pictures that come one after the other through a pipe, as ffmpeg and ImageMagick write them.

Each is cut out where it ends, so that memory holds one of them. What follows the end of PNG, JPEG,
BMP, WebP or raw Netpbm is the next picture; of any other format the first is the only one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from upscale.errors import ImageError
from upscale.image import netpbm, y4m
from upscale.image.model import Pixels
from upscale.image.source import identify

HEAD = 64  # bytes that tell the format of a picture
AT_ONCE = 1 << 20  # bytes that are read at a time where an end is looked for
MARKER = re.compile(rb"\xff+([^\x00\xff\x01\xd0-\xd8])")  # but fill bytes, restarts and SOI
PADDING = b"\0\t\n\r "
FIELDS = 4096  # bytes of a Netpbm header at most


class Pipe:
    """Bytes of a pipe that are looked at before they are taken."""

    def __init__(self, file: BinaryIO) -> None:
        """Read from the beginning of a file opened in binary."""
        self._read = getattr(file, "read1", file.read)  # what there is, without waiting for more
        self._held, self._ended = bytearray(), False

    def peek(self, count: int) -> bytes:
        """The next bytes, so many or as many as there are."""
        while len(self._held) < count and not self._ended:
            part = self._read(min(max(count - len(self._held), 1 << 16), AT_ONCE))
            self._held += part
            self._ended = not part
        return bytes(memoryview(self._held)[:count])

    def read(self, count: int = -1) -> bytes:
        """Take the next bytes, so many or as many as there are; all where ``count`` is negative."""
        parts = [self.peek(len(self._held) if count < 0 else count)]
        del self._held[: len(parts[0])]
        while count < 0 and (part := self._read(AT_ONCE)):
            parts.append(part)
        return b"".join(parts)

    def readline(self, most: int) -> bytes:
        """Take a line with its end, or ``most`` bytes."""
        while b"\n" not in self._held[:most] and len(self._held) < most and self.more():
            pass
        return self.read(self._held.find(b"\n", 0, most) + 1 or most)

    @property
    def held(self) -> bytearray:
        """What was read and not taken; :meth:`more` adds to it."""
        return self._held

    def more(self) -> bool:
        """Read some more; whether there was any."""
        before = len(self._held)
        self.peek(before + 1)
        return len(self._held) > before


def pictures(pipe: Pipe) -> Iterator[bytes]:
    """Yield the pictures of a pipe, each as the bytes of a file."""
    while head := _skip_padding(pipe):
        end = ENDS.get(identify(head))
        yield pipe.read() if end is None else pipe.read(end(pipe))


def _skip_padding(pipe: Pipe) -> bytes:
    """Take what lies between two pictures; the head of the next, empty at the end."""
    while True:
        head = pipe.peek(HEAD)
        rest = head.lstrip(PADDING)
        if len(rest) == len(head):
            return head
        pipe.read(len(head) - len(rest))


def _png(pipe: Pipe) -> int:
    """Behind IEND."""
    at, kind = 8, b""
    while kind != b"IEND":
        head = pipe.peek(at + 8)[at:]
        kind, at = head[4:], at + 12 + int.from_bytes(head[:4], "big")
        if len(head) < 8:
            return at
    return at


def _jpeg(pipe: Pipe) -> int:
    """Behind the first EOI that no segment holds.

    What a JPEG counts among its own pictures (Multi-Picture Format, CIPA DC-007: previews, gain
    maps) belongs to it, with all that follows.
    """
    at = 2
    while True:
        found = MARKER.search(pipe.held, at)
        if found is None:
            at = max(at, len(pipe.held) - 1)  # which may be the first half of a marker
        if found is None or found.end() + 6 > len(pipe.held):
            if pipe.more():
                continue
            if found is None:
                return len(pipe.held)
        marker, at = found[1], found.end()
        if marker == b"\xd9":
            return at
        if marker == b"\xe2" and pipe.held[at + 2 : at + 6] == b"MPF\0":
            while pipe.more():
                pass
            return len(pipe.held)
        at += int.from_bytes(pipe.held[at : at + 2], "big")


def _netpbm(pipe: Pipe) -> int:
    """By its header."""
    try:
        end = netpbm.end(pipe.peek(FIELDS))
    except ImageError:  # the decoder says what is wrong
        end = None
    if end is not None:
        return end
    while pipe.more():
        pass
    return len(pipe.held)


ENDS: dict[str, Callable[[Pipe], int]] = {
    "png": _png,
    "jpeg": _jpeg,
    "ppm": _netpbm,
    "webp": lambda pipe: 8 + int.from_bytes(pipe.peek(8)[4:], "little") + pipe.peek(8)[4] % 2,
    "bmp": lambda pipe: int.from_bytes(pipe.peek(6)[2:], "little"),
}


class Series:
    """A pipe of pictures, or of the frames of a video, whose first was looked at.

    Attributes:
        first: The first picture as the bytes of a file; of y4m its header and first frame.
        is_one: There are no others.
        video: What the header says, where it is y4m.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Look at the first.

        Raises:
            ImageError: It is y4m with a damaged header.
        """
        self._pipe = Pipe(file)
        self.video: y4m.Video | None = None
        if self._pipe.peek(len(y4m.SIGNATURE)) == y4m.SIGNATURE:
            line = y4m.read_line(self._pipe)
            self.video, self.first, self.is_one = y4m.parse(line), line, False
            return
        try:
            self._pictures = pictures(self._pipe)
            self.first = next(self._pictures, b"")
        except ImageError:  # the one who opens it says what is wrong
            self.first = self._pipe.read()
        try:
            self.is_one = not identify(_skip_padding(self._pipe))
        except ImageError:  # nothing, or what is no picture
            self.is_one = True

    def pictures(self) -> Iterator[bytes]:
        """Yield each picture as the bytes of a file, once."""
        yield self.first
        yield from self._pictures

    def frames(self) -> Iterator[Pixels]:
        """Yield each frame of y4m, once."""
        assert self.video is not None
        return y4m.frames(self._pipe, self.video)
