"""The chunks of a PNG (W3C, third edition): structure, checksums, and the inflated rows."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from upscale.errors import ImageError
from upscale.image.data import Data
from upscale.image.png_write import SIGNATURE

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # samples per pixel of each colour type
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
MOST_FILTERS = 4  # the highest filter type of a row
PIECE = 1 << 20  # bytes that are read or inflated at a time
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


@dataclass
class Chunks:
    """The chunks of a file, sorted by use; of the image data only the places."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool
    palette: bytes = b""
    transparency: bytes | None = None
    data: list[slice] = field(default_factory=list)
    other: dict[bytes, list[bytes]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def channels(self) -> int:
        """Samples of a pixel as they are stored."""
        return CHANNELS[self.colour]

    @property
    def frames(self) -> int:
        """Frames of the animation; 1 for a still picture."""
        return int.from_bytes(self.other[b"acTL"][0][:4], "big") if b"acTL" in self.other else 1


def places(data: Data) -> Iterator[tuple[bytes, slice]]:
    """Type of every chunk and where its content stands, up to IEND.

    Raises:
        ImageError: The file ends before IEND.
    """
    at = len(SIGNATURE)
    while True:
        head = data[at : at + 8]
        if len(head) < 8:
            raise ImageError("the PNG is cut short: it ends before its IEND chunk; fetch it again")
        length, kind = struct.unpack(">I4s", head)
        at += 8
        if at + length + 4 > len(data):
            raise ImageError(f"the PNG is cut short in chunk {kind!r}; fetch it again")
        yield kind, slice(at, at + length)
        if kind == b"IEND":
            return
        at += length + 4


def content(data: Data, kind: bytes, place: slice) -> Iterator[bytes]:
    """The content of a chunk in pieces.

    Raises:
        ImageError: The checksum behind it is another; the last piece is not given then.
    """
    checksum, piece = zlib.crc32(kind), b""
    for at in range(place.start, place.stop, PIECE):
        if piece:
            yield piece
        piece = data[at : min(at + PIECE, place.stop)]
        checksum = zlib.crc32(piece, checksum)
    if checksum != int.from_bytes(data[place.stop : place.stop + 4], "big"):
        raise ImageError(f"the PNG is damaged: wrong checksum in chunk {kind!r}; fetch it again")
    yield piece


def parse(data: Data) -> Chunks:
    """Check the structure and sort the chunks; the image data are left where they are.

    Raises:
        ImageError: Truncated, damaged, or no PNG.
    """
    found: Chunks | None = None
    for kind, place in places(data):
        if found and kind == b"IDAT":
            found.data.append(place)
            continue
        try:
            body = b"".join(content(data, kind, place))
        except ImageError:
            if not kind[0] & 0x20:
                raise
            if found:  # ancillary: the pixels do not depend on it
                found.notes.append(f"damaged {kind.decode('latin-1')} chunk left out")
            continue
        if found is None:
            found = _header(kind, body)
        elif kind == b"PLTE":
            found.palette = body
        elif kind == b"tRNS":
            found.transparency = body
        else:
            found.other.setdefault(kind, []).append(body)
    if found is None or not found.data:
        raise ImageError("the PNG has no image data (IDAT); fetch it again")
    if found.colour == 3 and (not found.palette or len(found.palette) % 3):
        raise ImageError("the PNG has palette pixels and no valid palette (PLTE); fetch it again")
    return found


def _header(kind: bytes, body: bytes) -> Chunks:
    if kind != b"IHDR" or len(body) != 13:
        raise ImageError("the PNG does not begin with a valid IHDR chunk; fetch it again")
    width, height, depth, colour, method, filtering, interlace = struct.unpack(">IIBBBBB", body)
    if depth not in DEPTHS.get(colour, ()) or method or filtering or interlace > 1:
        raise ImageError(
            f"the PNG header is invalid (colour type {colour}, {depth} bits); "
            "save the picture again"
        )
    return Chunks(width, height, depth, colour, bool(interlace))


def _passes(c: Chunks) -> list[tuple[int, int]]:
    """Rows, and bytes of a row without its filter type, of each pass over the picture."""
    found = []
    for x, y, dx, dy in ADAM7 if c.interlaced else ((0, 0, 1, 1),):
        w, h = -(-(c.width - x) // dx), -(-(c.height - y) // dy)
        if w > 0 and h > 0:
            found.append((h, row_bytes(c, w)))
    return found


def row_bytes(c: Chunks, width: int) -> int:
    """Bytes of so many pixels of a row."""
    return (width * c.depth * c.channels + 7) // 8


def inflated_length(c: Chunks) -> int:
    """Bytes that the image data inflate to: a filter type and the packed samples of every row."""
    return sum(rows * (1 + length) for rows, length in _passes(c))


def inflated(c: Chunks, data: Data) -> Iterator[bytes]:
    """The filtered rows, in pieces of any length.

    Raises:
        ImageError: Damaged, or more or less than the header promises; some of this is seen only at
            the end.
    """
    want, got, stream = inflated_length(c), 0, zlib.decompressobj()
    for place in c.data:
        for part in content(data, b"IDAT", place):
            rest = part
            while rest and not stream.eof and got <= want:
                try:
                    piece = stream.decompress(rest, PIECE)
                except zlib.error as error:
                    raise ImageError(f"the PNG is damaged: {error}; fetch it again") from error
                rest = stream.unconsumed_tail
                _check_filters(c, piece, got)
                got += len(piece)
                yield piece
    if got != want or not stream.eof:
        raise ImageError(
            f"the PNG is damaged: its data hold {got} bytes and its header promises {want}; "
            "fetch it again"
        )


def _check_filters(c: Chunks, piece: bytes, at: int) -> None:
    """Refuse filter types that do not exist, of which libpng would tell the terminal."""
    start, values = 0, np.frombuffer(piece, np.uint8)
    for rows, length in _passes(c):
        step = 1 + length
        first = max(0, -(-(at - start) // step))
        last = min(rows, -(-(at + len(piece) - start) // step))
        if first < last:
            worst = values[start + first * step - at : start + last * step - at : step].max()
            if worst > MOST_FILTERS:
                raise ImageError(
                    f"the PNG is damaged: a row has filter type {worst}; save the picture again"
                )
        start += rows * step
