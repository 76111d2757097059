"""The boxes of AVIF that libvips does not tell of; it turns the pixels as they say."""

from __future__ import annotations

from collections.abc import Iterator

from upscale.errors import ImageError
from upscale.image.source import Header
from upscale.metadata import Metadata
from upscale.metadata.data import Data
from upscale.metadata.png import code_points

PROPERTIES = (b"meta", b"iprp", b"ipco")
SAMPLE_SIZES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsz")
MOST_BOXES = 10_000


def header(data: Data) -> Header:
    """Read the boxes.

    Raises:
        ImageError: Cut short, or an HDR curve.
    """
    profile, frames, sizes = None, 1, [(0, 0)]
    for first, _ in find(data, (*PROPERTIES, b"ispe"), 0, len(data)):
        width, height = (int.from_bytes(data[first + i : first + i + 4], "big") for i in (4, 8))
        sizes.append((width, height))
    for first, last in find(data, (*PROPERTIES, b"colr"), 0, len(data)):
        body = data[first:last]
        if body[:4] == b"nclx" and len(body) >= 11 and body[5] != 2 and body[7] != 2:
            points = bytes((body[5], body[7], body[9], 1))  # libheif stretches video range
            profile = code_points(points, "AVIF colour box") or profile
    for first, _ in find(data, SAMPLE_SIZES, 0, len(data)):
        frames = max(frames, int.from_bytes(data[first + 8 : first + 12], "big"))
    return Header(Metadata("avif", icc=profile), max(sizes, key=max), frames=frames)


def boxes(data: Data, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, and first and last byte of the content, of each box (ISO/IEC 14496-12).

    Raises:
        ImageError: A box reaches beyond the end.
    """
    at, count = start, 0
    while at + 8 <= end:
        start_of = data[at : at + 16]
        size, kind, head = int.from_bytes(start_of[:4], "big"), start_of[4:8], 8
        if size == 1:
            size, head = int.from_bytes(start_of[8:16], "big"), 16
        elif size == 0:
            size = end - at
        count += 1
        if size < head or at + size > end or count > MOST_BOXES:
            shown = repr(kind)[2:-1]  # printable, whatever it is
            raise ImageError(f"the file is cut short or damaged in box {shown}; fetch it again")
        yield kind, at + head, at + size
        at += size


def find(data: Data, path: tuple[bytes, ...], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the contents of the boxes at the end of ``path`` lie; "meta" is a full box."""
    for kind, first, last in boxes(data, start, end):
        if kind != path[0]:
            continue
        inner = first + 4 if kind == b"meta" else first
        if len(path) == 1:
            yield inner, last
        else:
            yield from find(data, path[1:], inner, last)
