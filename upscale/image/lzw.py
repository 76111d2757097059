"""LZW as in TIFF 6.0, section 13, decoded without a loop over codes.

Between two Clear codes, code number i stands for a literal or for table entry j, and entry j is
what was put out for code j followed by one more byte: a copy of earlier output, one byte longer
than code j. Lengths and sources therefore follow from chains of references, which are resolved by
doubling.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from upscale.image.data import Data

CLEAR, END, FIRST = 256, 257, 258
Ints = NDArray[np.int32]

MOST_CODES = 4096 - FIRST + 1  # codes after a Clear before the table is full
# The width grows one code early: entry 511 is still unused when codes of 10 bits begin.
WIDTHS = np.repeat(np.arange(9, 13, dtype=np.int32), (254, 512, 1024, 4096))
OFFSETS = np.concatenate([[0], np.cumsum(WIDTHS)]).astype(np.int32)
LONGEST = int(OFFSETS[MOST_CODES + 8]) // 8 + 2  # bytes that codes up to a Clear code take


def blocks(raw: Data) -> Iterator[bytes]:
    """Decode one strip or tile, from one Clear code to the next.

    Raises:
        ValueError: A code that is not in the table, or no Clear code at the start.
    """
    first = raw[:2]
    if len(first) < 2 or (first[0] << 1 | first[1] >> 7) != CLEAR:
        raise ValueError("LZW data do not begin with a Clear code")
    at, end, ended = 9, 8 * len(raw), False
    while at + 9 <= end and not ended:
        byte = at >> 3
        data = np.frombuffer(raw[byte : byte + LONGEST] + b"\0\0", np.uint8).astype(np.int32)
        codes, used, ended = _block(data, at & 7, end - 8 * byte)
        at += used
        yield _expand(codes).tobytes()


def _block(data: Ints, at: int, end: int) -> tuple[Ints, int, bool]:
    """The codes from bit ``at`` up to the next Clear or End, bits used, and whether End was met."""
    count = int(np.searchsorted(OFFSETS, end - at, "right")) - 1
    count = min(count, MOST_CODES + 8)
    widths = WIDTHS[:count]
    bit = OFFSETS[:count] + at
    byte = bit >> 3
    words = data[byte] << 16 | data[byte + 1] << 8 | data[byte + 2]
    codes = words >> (24 - widths - (bit & 7)) & ((1 << widths) - 1)
    stops = np.flatnonzero((codes == CLEAR) | (codes == END))
    if len(stops) == 0:
        if count > MOST_CODES:
            raise ValueError("LZW table runs over")
        return codes, end, True
    stop = int(stops[0])
    return codes[:stop], int(OFFSETS[stop + 1]), bool(codes[stop] == END)


def _expand(codes: Ints) -> NDArray[np.uint8]:
    """The output of the codes after one Clear."""
    index = np.arange(len(codes), dtype=np.int32)
    copies = codes >= FIRST
    source = np.where(copies, codes - FIRST, index)
    if (source > index - copies).any():
        raise ValueError("LZW code that is not in the table yet")
    hops, pointer = copies.astype(np.int32), source
    while True:
        further = hops[pointer]
        if not further.any():
            break
        hops, pointer = hops + further, pointer[pointer]
    lengths = hops + 1
    starts = np.cumsum(lengths, dtype=np.int32) - lengths
    shift = np.repeat(starts[source] - starts, lengths)
    origin = np.arange(len(shift), dtype=np.int32) + shift
    while True:
        nearer = origin[origin]
        if (nearer == origin).all():
            break
        origin = nearer
    return np.asarray(np.repeat(codes, lengths)[origin], np.uint8)
