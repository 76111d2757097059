"""Whether the scans of a JPEG are whole, where the decoder does not tell.

libjpeg fills what a scan lacks with gray and only counts a warning, which Pillow does not show. In
a progressive file the scans of the mean values (DC, first pass) decide whether there is a picture;
their Huffman codes are walked here, one a block of 8 x 8.
"""

from __future__ import annotations

import re

from upscale.errors import ImageError

RESTART = re.compile(rb"\xff+[\xd0-\xd7]")
Table = list[int]  # by the next 16 bits: bits of code and value together; 0: no such code
Sampling = tuple[tuple[int, int], ...]
CUT_SHORT = "the JPEG is damaged or cut short in its pixels; fetch it again"


def check_first_scans(
    parts: list[bytes], size: tuple[int, int], sampling: Sampling, identifiers: bytes
) -> None:
    """Walk the first DC scans of a progressive JPEG.

    Args:
        parts: Its segments from marker to end, and after each SOS the coded data.
        size: Width and height.
        sampling: Horizontal and vertical factor of each component.
        identifiers: The number that the frame gives each component.

    Raises:
        ImageError: A scan ends too early or holds what is no code, or a component has none.
    """
    tables: dict[int, Table] = {}
    interval, seen = 0, set[int]()
    for segment, data in zip(parts, [*parts[1:], b""], strict=True):
        body = segment[4:]
        if segment[:2] == b"\xff\xc4":
            tables |= _tables(body)
        elif segment[:2] == b"\xff\xdd":
            interval = int.from_bytes(body[:2], "big")
        elif segment[:2] == b"\xff\xda" and _is_first_dc(body):
            chosen = [
                (identifiers.find(body[1 + 2 * i]), body[2 + 2 * i] >> 4) for i in range(body[0])
            ]
            if any(index < 0 or number not in tables for index, number in chosen):
                raise ImageError(CUT_SHORT)
            order, units = _blocks([index for index, _ in chosen], size, sampling)
            numbers = {index: tables[number] for index, number in chosen}
            _walk(data, [numbers[index] for index in order], units, interval)
            seen |= {index for index, _ in chosen}
    if len(seen) < len(sampling):
        raise ImageError(CUT_SHORT)


def _is_first_dc(body: bytes) -> bool:
    """Whether a scan header (after its length) is of DC coefficients, first pass."""
    end = 1 + 2 * body[0] if body else 0
    return len(body) >= end + 3 > 4 and body[end] == 0 and body[end + 2] >> 4 == 0


def _tables(body: bytes) -> dict[int, Table]:
    """The DC tables of a DHT segment; a value is the number of bits that follow its code."""
    found, at = {}, 0
    while at + 17 <= len(body):
        counts = body[at + 1 : at + 17]
        values = body[at + 17 : at + 17 + sum(counts)]
        if body[at] < 16:
            found[body[at]] = _table(counts, values)
        at += 17 + sum(counts)
    return found


def _table(counts: bytes, values: bytes) -> Table:
    """Lookup by 16 bits of canonical codes, `counts[i]` of them i + 1 bits long (T.81, annex C)."""
    table: Table = []
    taken = 0
    for i, count in enumerate(counts):
        span = 1 << (15 - i)
        for value in values[taken : taken + count]:
            table += [i + 1 + value if value < 16 else 0] * span
        taken += count
    return (table + [0] * 65536)[:65536]


def _blocks(indices: list[int], size: tuple[int, int], sampling: Sampling) -> tuple[list[int], int]:
    """The components of the blocks of one unit in order, and how many units a scan has."""
    most = [max(factor[i] for factor in sampling) for i in (0, 1)]
    if len(indices) > 1:
        order = [i for i in indices for _ in range(sampling[i][0] * sampling[i][1])]
        across, down = (-(-side // (8 * m)) for side, m in zip(size, most, strict=True))
        return order, across * down
    across, down = (
        -(-side * factor // (8 * m))
        for side, factor, m in zip(size, sampling[indices[0]], most, strict=True)
    )
    return indices, across * down


def _walk(data: bytes, order: list[Table], units: int, interval: int) -> None:
    """Read one code for each block, restart by restart."""
    left = units
    for part in RESTART.split(data):
        if left == 0:
            break
        count = min(interval or left, left)
        raw = part.replace(b"\xff\x00", b"\xff")
        end, padded, at = 8 * len(raw), raw + b"\xff\xff\xff", 0
        for _ in range(count):
            for table in order:
                byte = at >> 3
                word = padded[byte] << 16 | padded[byte + 1] << 8 | padded[byte + 2]
                step = table[word >> (8 - (at & 7)) & 0xFFFF]
                at += step
                if not step or at > end:
                    raise ImageError(CUT_SHORT)
        left -= count
    if left:
        raise ImageError(CUT_SHORT)
