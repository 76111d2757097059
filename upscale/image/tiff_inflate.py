"""One strip or tile of a TIFF decompressed, a piece at a time, and checked to hold what it must."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator

from upscale.errors import ImageError
from upscale.image import ccitt, lzw
from upscale.image.data import Data, cut

NONE, FAX_RLE, FAX_T4, FAX_T6, LZW, JPEG, DEFLATE = 1, 2, 3, 4, 5, 7, 8
PACKBITS, OLD_DEFLATE, LZMA = 32773, 32946, 34925
FAX = (FAX_RLE, FAX_T4, FAX_T6)
RATIO = {NONE: 1, PACKBITS: 64, DEFLATE: 1033, OLD_DEFLATE: 1033, LZW: 2800, LZMA: 10_000}
RATIO |= {JPEG: 1000, FAX_RLE: 1000, FAX_T4: 1000, FAX_T6: 100_000}  # a byte becomes at most
CHUNK = 1 << 20  # compressed bytes that are read at a time
PACKED = 1 << 16  # the same of PackBits, where 2 bytes become up to 128
LONGEST_RUN = 129  # bytes of one run of PackBits
LZMA_MEMORY = 1 << 28


def pieces(
    raw: Data, compression: int, want: int, step: int, *, width: int = 0, options: int = 0
) -> Iterator[bytes]:
    """Decompress one segment.

    Args:
        raw: Its bytes.
        compression: Of TIFF; none of JPEG.
        want: Bytes that it must hold at least; what it holds more is left.
        step: Bytes of each piece but the last.
        width: Columns, for fax codes.
        options: T4Options, for fax codes.

    Raises:
        ImageError: Damaged, or shorter than ``want``.
    """
    if compression in (DEFLATE, OLD_DEFLATE):
        found = _deflate(raw, step)
    elif compression == LZMA:
        found = _lzma(raw, step)
    elif compression == PACKBITS:
        found = _unpack_bits(raw)
    elif compression in FAX:
        rows = want // ((width + 7) // 8)
        found = ccitt.lines(raw[:], width, rows, compression, options)
    elif compression == LZW:
        found = lzw.blocks(raw)
    else:
        found = _chunks(raw, step)
    try:
        lacking = yield from cut(found, want, step)
    except (zlib.error, lzma.LZMAError, EOFError, MemoryError, ValueError) as error:
        raise ImageError(f"the TIFF is damaged: {error}; fetch it again") from error
    if lacking:
        raise ImageError(
            f"the TIFF is cut short: a segment holds {want - lacking} bytes of {want}; "
            "fetch it again"
        )


def _chunks(raw: Data, size: int) -> Iterator[bytes]:
    for at in range(0, len(raw), size):
        yield raw[at : at + size]


def _deflate(raw: Data, step: int) -> Iterator[bytes]:
    stream = zlib.decompressobj()
    for chunk in _chunks(raw, CHUNK):
        while chunk and not stream.eof:
            yield stream.decompress(chunk, step)
            chunk = stream.unconsumed_tail  # noqa: PLW2901 - the rest of it


def _lzma(raw: Data, step: int) -> Iterator[bytes]:
    stream = lzma.LZMADecompressor(memlimit=LZMA_MEMORY)
    for chunk in _chunks(raw, CHUNK):
        if stream.eof:
            return
        yield stream.decompress(chunk, step)
        while not (stream.needs_input or stream.eof):
            yield stream.decompress(b"", step)


def _unpack_bits(raw: Data) -> Iterator[bytes]:
    """PackBits (TIFF 6.0, section 9)."""
    held = b""
    for at in range(0, len(raw), PACKED):
        held += raw[at : at + PACKED]
        whole = at + PACKED >= len(raw)
        out, used = _unpacked(held, len(held) if whole else len(held) - LONGEST_RUN)
        held = held[used:]
        yield out


def _unpacked(raw: bytes, end: int) -> tuple[bytes, int]:
    """The runs that begin before ``end``, and where the next one begins."""
    out, at = bytearray(), 0
    while at < end:
        n = raw[at]
        if n < 128:
            out += raw[at + 1 : at + 2 + n]
            at += 2 + n
        else:
            if n > 128:
                out += raw[at + 1 : at + 2] * (257 - n)
            at += 2 if n > 128 else 1
    return bytes(out), at
