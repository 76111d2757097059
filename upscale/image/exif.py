"""EXIF: read what matters, change it in place, carry the rest untouched.

Maker notes point into their block by absolute offsets. Nothing is therefore moved: values change in
place, entries that are new make the first directory stand in the thumbnail's room or at the end,
and point to values that stay where they are.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from upscale.image import tags
from upscale.image.tags import Block, Directory, Tag, TagError, TagValue

DESCRIPTION, ORIENTATION, SOFTWARE = 0x010E, 0x0112, 0x0131
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x8769, 0x8825, 0xA005
PIXEL_X, PIXEL_Y = 0xA002, 0xA003
FOCAL_X, FOCAL_Y, SUBJECT_AREA, SUBJECT_LOCATION = 0xA20E, 0xA20F, 0x9214, 0xA214
THUMBNAIL, THUMBNAIL_LENGTH = 0x0201, 0x0202
PREFIX = b"Exif\0\0"
MOST = 65_527  # bytes that a block may grow to: what JPEG holds in one segment

# Tags of the first directory of a TIFF that describe the picture and not how its pixels are stored:
# those of EXIF 3.0, and of TIFF/EP and DNG (exposure, maker note and so on beside them).
DESCRIPTIVE = {0x010D, *range(0x010E, 0x0111), 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749}
DESCRIPTIVE |= {0x8298, 0x829A, 0x829D, *range(0x8822, 0x8836), *range(0x8FFF, 0x9300)}
DESCRIPTIVE |= {*range(0x9C9B, 0x9CA0), *range(0xA000, 0xA600), 0xC614, 0xC62F, 0xC65B}
DESCRIPTIVE -= {GPS_IFD, EXIF_IFD, INTEROP_IFD, 0xA480, 0xA481}  # the last two are GDAL's


@dataclass(frozen=True)
class Exif:
    """What a block says.

    Attributes:
        block: The block, upright and without thumbnail; None where it was damaged beyond use.
        room: Bytes [start, end) of it that are free now, the thumbnail's.
        orientation: 1 to 8, as it was; 0 where it does not say.
        dpi: Resolution, None where it does not say.
        adobe_rgb: It marks its picture as Adobe RGB (DCF option file, "R03").
        note: What was wrong with it, or "".
    """

    block: bytes | None
    room: tuple[int, int] = (0, 0)
    orientation: int = 0
    dpi: tuple[float, float] | None = None
    adobe_rgb: bool = False
    note: str = ""


def read(raw: bytes) -> Exif:
    """Read a block (with or without its "Exif" prefix) and turn it upright.

    The orientation becomes 1, the thumbnail directory is unlinked and its picture removed. A
    damaged block is left out with a note; no error is raised.
    """
    data = raw[6:] if raw[:6] == PREFIX else raw
    try:
        block = tags.open_block(data)
        first, following = tags.read_directory(block, block.first)
        if block.big:
            raise TagError("BigTIFF")
    except TagError:
        return Exif(None, note="damaged EXIF left out")
    orientation = tags.number(first, ORIENTATION, block.order)
    patched, room = bytearray(data), (0, 0)
    _set(patched, block, first, ORIENTATION, 1)
    if following:
        patched, room = _without_thumbnail(patched, block, following)
    return Exif(
        bytes(patched),
        room,
        orientation if 1 <= orientation <= 8 else 0,
        dpi_of(first, block.order),
        _is_adobe_rgb(block, first),
    )


def dpi_of(first: Directory, order: str) -> tuple[float, float] | None:
    """Pixels per inch from the resolution tags, None where they do not say."""
    unit = {2: 1.0, 3: 2.54}.get(tags.number(first, RESOLUTION_UNIT, order, 2))
    if unit is None or not {X_RESOLUTION, Y_RESOLUTION} <= set(first):
        return None
    pair = [tags.numbers(first[t], order)[:1] for t in (X_RESOLUTION, Y_RESOLUTION)]
    x, y = (float(v[0]) * unit if v else 0.0 for v in pair)
    return (x, y) if x > 0 and y > 0 else None


def _is_adobe_rgb(block: Block, first: Directory) -> bool:
    exif = _sub(block, first, EXIF_IFD)
    if tags.number(exif, 0xA001, block.order) == 2:  # as some cameras write it
        return True
    return tags.text(_sub(block, exif, INTEROP_IFD), 1) == "R03"


def _sub(block: Block, directory: Directory, tag: int) -> Directory:
    """The directory that ``tag`` points to; empty where it is missing or damaged."""
    if tag not in directory:
        return {}
    try:
        return tags.read_directory(block, tags.number(directory, tag, block.order))[0]
    except TagError:
        return {}


def _set(data: bytearray, block: Block, directory: Directory, tag: int, value: int) -> None:
    """Set an entry that exists to one integer, in place."""
    entry = directory.get(tag)
    if entry is not None:
        short = entry.type == tags.SHORT and value < 65536
        new = (tags.short if short else tags.long)(value, block.order)
        _overwrite(data, block, entry, tag, new)


def _overwrite(
    data: bytearray, block: Block, entry: TagValue, tag: int, new: TagValue, at: int | None = None
) -> bool:
    """Put ``new`` in the place of an entry; False where its value needs more room than that has.

    ``at``: where the value is to stand if not in its old place.
    """
    if len(new.value) <= 4:
        place = new.value.ljust(4, b"\0")
    elif at is None and len(entry.value) < max(5, len(new.value)):
        return False
    else:
        where = block.unpack("I", entry.at + 8)[0] if at is None else at
        data[where : where + len(new.value)] = new.value
        place = struct.pack(block.order + "I", where)
    head = struct.pack(block.order + "HHI", tag, new.type, new.count)
    data[entry.at : entry.at + 12] = head + place
    return True


def _without_thumbnail(
    data: bytearray, block: Block, offset: int
) -> tuple[bytearray, tuple[int, int]]:
    """Unlink the second directory; cut its picture off at the end of the block, or blank it."""
    count = block.unpack("H", block.first)[0]
    struct.pack_into(block.order + "I", data, block.first + 2 + 12 * count, 0)
    try:
        second, _ = tags.read_directory(block, offset)
    except TagError:
        return data, (0, 0)
    start = tags.number(second, THUMBNAIL, block.order)
    length = tags.number(second, THUMBNAIL_LENGTH, block.order)
    if not 8 <= start <= len(data) - length or length <= 0 or start < offset:
        return data, (0, 0)
    if start + length == len(data):
        return data[:start], (0, 0)
    data[start : start + length] = bytes(length)
    return data, (start, start + length)


def corrected(block: bytes, size: tuple[int, int], ratio: tuple[float, float]) -> bytes:
    """The block with the dimensions of the picture, and what is told in its pixels (in place).

    Args:
        block: Those tags change that it has.
        size: Width and height.
        ratio: How many times as wide and high the picture is as the one that the block came with.
    """
    opened = tags.open_block(block)
    first, _ = tags.read_directory(opened, opened.first)
    exif, order = _sub(opened, first, EXIF_IFD), opened.order
    data = bytearray(block)
    for directory, names in ((first, (Tag.WIDTH, Tag.HEIGHT)), (exif, (PIXEL_X, PIXEL_Y))):
        for tag, value in zip(names, size, strict=True):
            _set(data, opened, directory, tag, value)
    for tag, factor in ((FOCAL_X, ratio[0]), (FOCAL_Y, ratio[1])):
        if tag in exif and exif[tag].type == tags.RATIONAL and factor != 1:
            (old,) = tags.numbers(exif[tag], order)[:1]
            _overwrite(data, opened, exif[tag], tag, tags.rational(old * factor, order))
    for tag in (SUBJECT_AREA, SUBJECT_LOCATION):  # x, y, and width and height, or a diameter
        if tag in exif and exif[tag].type == tags.SHORT:
            scaled = [
                min(65535, round(v * ratio[i % 2]))
                for i, v in enumerate(numbers_of(exif, tag, order))
            ]
            _overwrite(data, opened, exif[tag], tag, tags.short(scaled, order))
    return bytes(data)


def without_orientation(block: bytes) -> bytes:
    """The block without the tag, as long as before, where that says upright."""
    opened = tags.open_block(block)
    first, _ = tags.read_directory(opened, opened.first)
    if tags.number(first, ORIENTATION, opened.order) != 1:
        return block
    count, at = opened.unpack("H", opened.first)[0], first[ORIENTATION].at
    end = opened.first + 2 + 12 * count + 4
    head = block[: opened.first] + struct.pack(opened.order + "H", count - 1)
    return head + block[opened.first + 2 : at] + block[at + 12 : end] + bytes(12) + block[end:]


def numbers_of(directory: Directory, tag: int, order: str) -> tuple[float, ...]:
    """All values of a tag; none where it is missing."""
    return tags.numbers(directory[tag], order) if tag in directory else ()


def software(block: bytes) -> str:
    """The Software tag, "" where it is missing or the block is damaged."""
    try:
        opened = tags.open_block(block)
        return tags.text(tags.read_directory(opened, opened.first)[0], SOFTWARE)
    except TagError:
        return ""


def is_ours(block: bytes) -> bool:
    """Whether the block holds nothing but what ``edited`` makes."""
    try:
        opened = tags.open_block(block)
        first, _ = tags.read_directory(opened, opened.first)
    except TagError:
        return False
    return set(first) <= {SOFTWARE, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT} and tags.text(
        first, SOFTWARE
    ).startswith("upscale")


def edited(
    block: bytes | None,
    *,
    software: str | None = None,
    dpi: tuple[float, float] | None = None,
    room: tuple[int, int] = (0, 0),
) -> bytes:
    """The block, or a new one, with Software and resolution (pixels per inch) set.

    What exists changes in place; what is new or longer goes into ``room`` (free bytes), the place
    of the old directory, or to the end. A block does not grow beyond ``MOST`` by it: then what does
    not fit stays as it was.
    """
    order = tags.open_block(block).order if block else "<"
    changes: Directory = {}
    if software is not None:
        changes[SOFTWARE] = tags.ascii_entry(software)
    if dpi is not None:
        pair = zip((X_RESOLUTION, Y_RESOLUTION), dpi, strict=True)
        changes |= {tag: tags.rational(value, order) for tag, value in pair}
        changes[RESOLUTION_UNIT] = tags.short(2, order)
    if block is None:
        return b"II*\0\x08\0\0\0" + tags.write_directory(changes, 8, order)
    opened = tags.open_block(block)
    first, _ = tags.read_directory(opened, opened.first)
    data = bytearray(block)
    changes = {
        tag: value
        for tag, value in changes.items()
        if tag not in first or not _overwrite(data, opened, first[tag], tag, value)
    }
    grown = _grown(bytes(data), changes, room) if changes else bytes(data)
    return grown if len(grown) <= max(MOST, len(block)) else bytes(data)


def _grown(block: bytes, changes: Directory, room: tuple[int, int]) -> bytes:
    """The block with entries that its first directory lacks, or has no room for."""
    opened = tags.open_block(block)
    data, order, start = bytearray(block), opened.order, opened.first
    free = [room] if not any(data[slice(*room)]) else []

    def place(size: int) -> int:
        for i, (first, last) in enumerate(free):
            at = first + first % 2
            if at + size <= last:
                free[i] = (at + size, last)
                return at
        at = len(data) + len(data) % 2
        data.extend(bytes(at + size - len(data)))
        return at

    # 1. The entries as they stand, and blank ones; the table moves where there are new ones.
    count = opened.unpack("H", start)[0]
    table = {
        opened.unpack("H", at)[0]: block[at : at + 12]
        for at in range(start + 2, start + 2 + 12 * count, 12)
    }
    new = [tag for tag in changes if tag not in table]
    if new:
        end = start + 6 + 12 * count
        following = block[end - 4 : end]
        table |= {tag: struct.pack(order + "H10x", tag) for tag in new}
        rows = b"".join(table[tag] for tag in sorted(table))
        at = place(6 + len(rows))
        data[at : at + 6 + len(rows)] = struct.pack(order + "H", len(table)) + rows + following
        data[4:8] = struct.pack(order + "I", at)
        data[start:end] = bytes(end - start)
        free.append((start, end))
        start = at
    # 2. The values, each where there is room.
    for tag, value in changes.items():
        at = start + 2 + 12 * sorted(table).index(tag)
        entry = TagValue(value.type, 0, b"", at)
        where = place(len(value.value)) if len(value.value) > 4 else None
        _overwrite(data, opened, entry, tag, value, where)
    return bytes(data)


def directories(block: Block, first: Directory, also: set[int]) -> dict[int, Directory]:
    """Tags ``also`` of the first directory (key 0), and the EXIF, GPS, interop ones."""
    parts = {0: {t: e for t, e in first.items() if t in also}}
    for tag in (EXIF_IFD, GPS_IFD):
        sub = _sub(block, first, tag)
        if sub:
            parts[tag] = {t: e for t, e in sub.items() if t != INTEROP_IFD}
            interop = _sub(block, sub, INTEROP_IFD)
            if interop:
                parts[INTEROP_IFD] = interop
    return parts


def from_tiff(block: Block, first: Directory, also: set[int]) -> bytes | None:
    """An EXIF block of what a TIFF's first directory says; None where it says nothing."""
    parts = directories(block, first, also)
    if not parts[0] and len(parts) == 1:
        return None
    head = (b"II*\0" if block.order == "<" else b"MM\0*") + struct.pack(block.order + "I", 8)
    return head + write(parts, parts[0], 8, block.order)


def in_order(raw: bytes, order: str, leave: set[int]) -> dict[int, Directory]:
    """The ``directories`` of a block, without tags ``leave`` of the first, in a byte order."""
    block = tags.open_block(raw)
    first, _ = tags.read_directory(block, block.first)
    pointers = {EXIF_IFD, GPS_IFD, INTEROP_IFD}
    return {
        key: {tag: tags.swapped(entry, block.order, order) for tag, entry in part.items()}
        for key, part in directories(block, first, set(first) - leave - pointers).items()
    }


def write(
    parts: dict[int, Directory],
    first: Directory,
    offset: int,
    order: str,
    *,
    big: bool = False,
    following: int = 0,
) -> bytes:
    """``first`` to stand at ``offset`` (even), and behind it the sub-directories of ``parts``."""
    # 1. Who points to each sub-directory; the pointers are entries of their own.
    placed, subs = dict(first), {t: dict(d) for t, d in parts.items() if t}
    if INTEROP_IFD in subs:
        subs.setdefault(EXIF_IFD, {})
    owners = {INTEROP_IFD: subs.get(EXIF_IFD, {}), EXIF_IFD: placed, GPS_IFD: placed}
    for tag in subs:
        owners[tag][tag] = _pointer(0, order, big)  # so that every directory has its final length
    # 2. Now that lengths are known, where each will stand.
    at = offset + _even(len(tags.write_directory(placed, 0, order, big=big)))
    for tag, directory in subs.items():
        owners[tag][tag] = _pointer(at, order, big)
        at += _even(len(tags.write_directory(directory, 0, order, big=big)))
    # 3. Write them in that order.
    out = tags.write_directory(placed, offset, order, big=big, following=following)
    out += b"\0" * (len(out) % 2)
    for directory in subs.values():
        out += tags.write_directory(directory, offset + len(out), order, big=big)
        out += b"\0" * (len(out) % 2)
    return out


def _pointer(at: int, order: str, big: bool) -> TagValue:
    return tags.long8([at], order) if big else tags.long(at, order)


def _even(length: int) -> int:
    return length + length % 2
