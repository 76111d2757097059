"""The chunks of a PNG (W3C, third edition): those that make pixels are left to libvips.

Of the others every checksum is looked at here, so that a damaged one is a note and no error, and
libvips sees none of them.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

from upscale.errors import ImageError
from upscale.image.source import Header
from upscale.metadata import Metadata
from upscale.metadata import png as chunks
from upscale.metadata.data import Data

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
MOST_CHUNK = 1 << 28  # bytes of a chunk of metadata


def header(data: Data) -> Header:
    """Sort the chunks.

    Raises:
        ImageError: Cut short, no PNG, or in a transfer curve that cannot be honoured.
    """
    pieces: list[bytes | slice] = [SIGNATURE]
    other: dict[bytes, list[bytes]] = {}
    notes: list[str] = []
    at, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        head = data[at : at + 8]
        if len(head) < 8:
            raise ImageError("the PNG is cut short: it ends before its IEND chunk; fetch it again")
        length, kind = struct.unpack(">I4s", head)
        end, shown = at + 12 + length, repr(kind)[2:-1]  # printable, whatever it is
        if end > len(data):
            raise ImageError(f"the PNG is cut short in chunk {shown}; fetch it again")
        if kind in PIXELS:
            _join(pieces, slice(at, end))
        elif length <= MOST_CHUNK:
            body = data[at + 8 : end - 4]
            if zlib.crc32(body, zlib.crc32(kind)) == int.from_bytes(data[end - 4 : end], "big"):
                other.setdefault(kind, []).append(body)
            else:
                notes.append(f"damaged {shown} chunk left out")
        at = end
    head = data[8:33]
    if head[4:8] != b"IHDR" or len(head) < 25:
        raise ImageError("the PNG does not begin with a valid IHDR chunk; fetch it again")
    width, height, depth, colour = struct.unpack(">IIBB", head[8:18])
    found = chunks.read(other, gray=colour in (0, 4))
    metadata = replace(found, palette=colour == 3, bilevel=depth == 1, notes=(*notes, *found.notes))
    frames = int.from_bytes(other[b"acTL"][0][:4], "big") if b"acTL" in other else 1
    frames = max(frames, 1 + (b"acTL" in other))
    return Header(metadata, (width, height), tuple(pieces), frames=frames)


def _join(pieces: list[bytes | slice], part: slice) -> None:
    """Add a part of the file, to the last one where it follows on it."""
    last = pieces[-1]
    if isinstance(last, slice) and last.stop == part.start:
        pieces[-1] = slice(last.start, part.stop)
    else:
        pieces.append(part)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_metadata(start: bytes, metadata: Metadata) -> bytes:
    """The start of a file with the chunks of the metadata behind IHDR, for libvips' own (pHYs)."""
    at = len(SIGNATURE) + 25
    more = b"".join(chunk(kind, body) for kind, body in chunks.write(metadata))
    rest = start[at + 21 :] if start[at + 4 : at + 8] == b"pHYs" else start[at:]
    return start[:at] + more + rest
