"""Directories of tags as TIFF 6.0, BigTIFF and EXIF store them."""

from __future__ import annotations

import math
import struct
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from functools import partial

from upscale.image.source import Data

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
SIZES |= {16: 8, 17: 8, 18: 8}  # BigTIFF
CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I"}
CODES |= {16: "Q", 17: "q", 18: "Q"}
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, DOUBLE, LONG8 = 1, 2, 3, 4, 5, 7, 12, 16
SIGNED_RATIONAL = 10
PREMULTIPLIED, STRAIGHT = 1, 2  # kinds of extra samples
MOST_ENTRIES = 4096  # of one directory; real ones have a few dozen
MOST_VALUE = 1 << 26  # bytes of one value that are read
MOST_VALUES = 1 << 28  # bytes of all values of a directory


class Tag(IntEnum):
    """Those that say how a TIFF stores its pixels."""

    SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION = 254, 256, 257, 258, 259
    PHOTOMETRIC, OFFSETS, SAMPLES, ROWS_PER_STRIP, COUNTS, PLANAR = 262, 273, 277, 278, 279, 284
    PREDICTOR, TILE_WIDTH, TILE_OFFSETS, TILE_COUNTS, SUB_IFDS = 317, 322, 324, 325, 330
    EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING, DNG_VERSION = 338, 339, 530, 50706


class TagError(ValueError):
    """The directory is damaged."""


@dataclass(frozen=True)
class TagValue:
    """One tag: its type, number of values, and the values in the byte order of the file.

    ``at`` is the position of the entry in the block that it was read from, 0 for a new one.
    """

    type: int
    count: int
    value: bytes
    at: int = 0


Directory = dict[int, TagValue]


@dataclass(frozen=True)
class Block:
    """A TIFF file or EXIF block: its bytes, byte order ("<" or ">"), BigTIFF, first offset."""

    data: Data
    order: str
    big: bool
    first: int

    def unpack(self, code: str, at: int) -> tuple[int, ...]:
        """Integers of ``struct`` code ``code`` at ``at``; ``TagError`` beyond the end."""
        format_ = self.order + code
        raw = self.data[at : at + struct.calcsize(format_)]
        try:
            return struct.unpack(format_, raw)
        except struct.error as error:
            raise TagError(f"offset {at} lies beyond the end ({len(self.data)} bytes)") from error


def open_block(data: Data) -> Block:
    """Read the header; ``TagError`` where it is none."""
    head = data[:16]
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise TagError("no TIFF header")
    version = struct.unpack_from(order + "H", head, 2)[0]
    if version == 42:
        return Block(data, order, False, struct.unpack_from(order + "I", head, 4)[0])
    if version == 43 and len(head) == 16:
        return Block(data, order, True, struct.unpack_from(order + "Q", head, 8)[0])
    raise TagError(f"TIFF version {version} is unknown")


def read_directory(
    block: Block, offset: int, needed: Collection[int] = ()
) -> tuple[Directory, int]:
    """The directory at ``offset`` and the offset of the next one (0: none).

    Entries of an unknown type, with values beyond the end of the block, or very large, are left
    out; ``TagError`` where their tag is ``needed``.
    """
    head, width, inline = ("Q", 20, 8) if block.big else ("H", 12, 4)
    count = block.unpack(head, offset)[0]
    if count > MOST_ENTRIES:
        raise TagError(f"a directory of {count} entries")
    at = offset + (8 if block.big else 2)
    directory: Directory = {}
    room = MOST_VALUES
    for _ in range(count):
        tag, type_, number_ = block.unpack("HHQ" if block.big else "HHI", at)
        length = SIZES.get(type_, 0) * number_
        where = at + width - inline
        if length > inline:
            where = block.unpack("Q" if block.big else "I", where)[0]
        fits = 0 < length <= min(MOST_VALUE, room) and where + length <= len(block.data)
        if fits and tag not in directory:
            directory[tag] = TagValue(type_, number_, block.data[where : where + length], at)
            room -= length
        elif tag in needed and tag not in directory:
            raise TagError(f"the values of tag {tag} lie beyond the end")
        at += width
    following = block.unpack("Q" if block.big else "I", at)[0]
    return directory, following


def directory_length(block: Block, offset: int) -> int:
    """Bytes of the directory at ``offset``, without the values that lie elsewhere."""
    head, start, width = ("Q", 8, 20) if block.big else ("H", 2, 12)
    return start + width * block.unpack(head, offset)[0]


def numbers(entry: TagValue, order: str) -> tuple[float, ...]:
    """The values of a numeric entry; rationals as quotients. What is no number is 0."""
    if entry.type in (RATIONAL, SIGNED_RATIONAL):
        code = "I" if entry.type == RATIONAL else "i"
        flat = struct.unpack(f"{order}{2 * entry.count}{code}", entry.value)
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return tuple(n / d if d else 0.0 for n, d in pairs)
    code = CODES.get(entry.type, "B")
    count = len(entry.value) // struct.calcsize("=" + code)
    values = struct.unpack(f"{order}{count}{code}", entry.value)
    return tuple(v if math.isfinite(v) else 0.0 for v in values) if code in "fd" else values


def number(directory: Directory, tag: int, order: str, default: int = 0) -> int:
    """The first value of a tag as an integer, ``default`` where the tag is missing."""
    entry = directory.get(tag)
    values = numbers(entry, order) if entry and entry.type != ASCII else ()
    return int(values[0]) if values else default


def text(directory: Directory, tag: int) -> str:
    """The value of an ASCII tag, "" where it is missing."""
    entry = directory.get(tag)
    return entry.value.split(b"\0")[0].decode("utf-8", "replace").strip() if entry else ""


def _packed(type_: int, values: float | list[int] | list[float], order: str) -> TagValue:
    """One or several numbers of one type."""
    every = values if isinstance(values, list) else [values]
    return TagValue(type_, len(every), struct.pack(f"{order}{len(every)}{CODES[type_]}", *every))


short, long, long8, double = (partial(_packed, type_) for type_ in (SHORT, LONG, LONG8, DOUBLE))


def ascii_entry(value: str) -> TagValue:
    """A string, closed by a zero byte."""
    raw = value.encode("utf-8") + b"\0"
    return TagValue(ASCII, len(raw), raw)


def undefined(value: bytes) -> TagValue:
    """Bytes of which only their owner knows what they mean."""
    return TagValue(UNDEFINED, len(value), value)


def rational(value: float, order: str) -> TagValue:
    """A RATIONAL to four decimals, coarser where it is large."""
    whole = round(value)
    parts = 1 if abs(value - whole) < 1e-9 else min(10000, (2**32 - 1) // max(1, whole + 1))
    pair = min(round(value * parts), 2**32 - 1), parts
    return TagValue(RATIONAL, 1, struct.pack(order + "II", *pair))


def swapped(entry: TagValue, old: str, new: str) -> TagValue:
    """The entry in another byte order."""
    size = 4 if entry.type in (RATIONAL, SIGNED_RATIONAL) else SIZES[entry.type]
    if old == new or size == 1:
        return entry
    value = b"".join(entry.value[i : i + size][::-1] for i in range(0, len(entry.value), size))
    return TagValue(entry.type, entry.count, value, entry.at)


def write_directory(
    directory: Directory, offset: int, order: str, *, big: bool = False, following: int = 0
) -> bytes:
    """A directory to stand at ``offset``, followed by the values that do not fit in its entries."""
    head, width, inline = ("Q", 20, 8) if big else ("H", 12, 4)
    start = 8 if big else 2
    tail_at = offset + start + width * len(directory) + inline
    entries, tail = [], b""
    for tag in sorted(directory):
        entry = directory[tag]
        entries.append(struct.pack(order + ("HHQ" if big else "HHI"), tag, entry.type, entry.count))
        if len(entry.value) <= inline:
            entries.append(entry.value.ljust(inline, b"\0"))
        else:
            tail += b"\0" * (-(tail_at + len(tail)) % 2)
            entries.append(struct.pack(order + ("Q" if big else "I"), tail_at + len(tail)))
            tail += entry.value
    count = struct.pack(order + head, len(directory))
    end = struct.pack(order + ("Q" if big else "I"), following)
    return b"".join([count, *entries, end, tail])
