"""The boxes of ISO base media files (ISO/IEC 14496-12), as far as AVIF and JPEG XL use them."""

from __future__ import annotations

from collections.abc import Iterator

from upscale.errors import ImageError

MOST_BOXES = 10_000


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, and first and last byte of the content, of each box between two positions.

    Raises:
        ImageError: A box reaches beyond the end.
    """
    at, count = start, 0
    while at + 8 <= end:
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = end - at
        count += 1
        if size < head or at + size > end or count > MOST_BOXES:
            raise ImageError(f"the file is cut short or damaged in box {kind!r}; fetch it again")
        yield kind, at + head, at + size
        at += size


def find(data: bytes, path: tuple[bytes, ...], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the contents of the boxes at the end of ``path`` lie; "meta" is a full box."""
    for kind, first, last in boxes(data, start, end):
        if kind != path[0]:
            continue
        inner = first + 4 if kind == b"meta" else first
        if len(path) == 1:
            yield inner, last
        else:
            yield from find(data, path[1:], inner, last)
