"""EXIF: read what matters, change it in place, carry the rest untouched.

Maker notes point into their block by absolute offsets. Nothing is therefore moved: values change in
place, and a directory that grows is written again at the end of the block.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from upscale.metadata import tags
from upscale.metadata.tags import Block, Directory, Entry, Tag, TagError

ORIENTATION, SOFTWARE = 0x0112, 0x0131
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x8769, 0x8825, 0xA005
PIXEL_X, PIXEL_Y = 0xA002, 0xA003
THUMBNAIL, THUMBNAIL_LENGTH = 0x0201, 0x0202
SUB_DIRECTORIES = (EXIF_IFD, GPS_IFD, INTEROP_IFD)
PREFIX = b"Exif\0\0"

# Tags of the first directory that describe the picture and not how its pixels are stored.
DESCRIPTIVE = {0x010D, 0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749}
DESCRIPTIVE |= {0x8298, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F, EXIF_IFD, GPS_IFD}


@dataclass(frozen=True)
class Exif:
    """What a block says.

    Attributes:
        block: The block, upright and without thumbnail; None where it was damaged beyond use.
        orientation: 1 to 8, as it was.
        dpi: Resolution, None where it does not say.
        adobe_rgb: It marks its picture as Adobe RGB (DCF option file, "R03").
        note: What was wrong with it, or "".
    """

    block: bytes | None
    orientation: int = 1
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
    orientation = tags.number(first, ORIENTATION, block.order, 1)
    patched = bytearray(data)
    _set(patched, block, first, ORIENTATION, 1)
    if following:
        patched = _without_thumbnail(patched, block, following)
    return Exif(
        bytes(patched),
        orientation if 1 <= orientation <= 8 else 1,
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
    if entry is None:
        return
    kind = tags.SHORT if entry.type == tags.SHORT and value < 65536 else tags.LONG
    struct.pack_into(
        block.order + ("HHIHxx" if kind == tags.SHORT else "HHII"),
        data,
        entry.at,
        tag,
        kind,
        1,
        value,
    )


def _without_thumbnail(data: bytearray, block: Block, offset: int) -> bytearray:
    """Unlink the second directory; cut its picture off at the end of the block, or blank it."""
    count = block.unpack("H", block.first)[0]
    struct.pack_into(block.order + "I", data, block.first + 2 + 12 * count, 0)
    try:
        second, _ = tags.read_directory(block, offset)
    except TagError:
        return data
    start = tags.number(second, THUMBNAIL, block.order)
    length = tags.number(second, THUMBNAIL_LENGTH, block.order)
    if not 8 <= start <= len(data) - length or length <= 0 or start < offset:
        return data
    if start + length == len(data):
        return data[:start]
    data[start : start + length] = bytes(length)
    return data


def corrected(block: bytes, width: int, height: int) -> bytes:
    """The block with the dimensions of the picture (those tags that it has)."""
    opened = tags.open_block(block)
    first, _ = tags.read_directory(opened, opened.first)
    data = bytearray(block)
    exif = _sub(opened, first, EXIF_IFD)
    for directory, tag, value in (
        (first, Tag.WIDTH, width),
        (first, Tag.HEIGHT, height),
        (exif, PIXEL_X, width),
        (exif, PIXEL_Y, height),
    ):
        _set(data, opened, directory, tag, value)
    return bytes(data)


def software(block: bytes) -> str:
    """The Software tag, "" where it is missing or the block is damaged."""
    try:
        opened = tags.open_block(block)
        return tags.text(tags.read_directory(opened, opened.first)[0], SOFTWARE)
    except TagError:
        return ""


def with_software(block: bytes | None, name: str) -> bytes:
    """The block, or a new one, with the Software tag set."""
    return _with(block, lambda order: {SOFTWARE: tags.ascii_entry(name)})


def with_dpi(block: bytes | None, dpi: tuple[float, float]) -> bytes:
    """The block, or a new one, with the resolution in pixels per inch."""
    return _with(
        block,
        lambda order: {
            X_RESOLUTION: tags.rational(dpi[0], order),
            Y_RESOLUTION: tags.rational(dpi[1], order),
            RESOLUTION_UNIT: tags.short(2, order),
        },
    )


def _with(block: bytes | None, entries: Callable[[str], Directory]) -> bytes:
    """The block, or a new one, with entries (for a byte order) in its first directory."""
    if block is None:
        return b"II*\0\x08\0\0\0" + tags.write_directory(entries("<"), 8, "<")
    opened = tags.open_block(block)
    first, _ = tags.read_directory(opened, opened.first)
    data = block + b"\0" * (len(block) % 2)
    head = data[:4] + struct.pack(opened.order + "I", len(data))
    directory = first | entries(opened.order)
    return head + data[8:] + tags.write_directory(directory, len(data), opened.order)


def directories(block: Block, first: Directory) -> dict[int, Directory]:
    """The descriptive tags of the first directory (key 0), and the EXIF, GPS, interop ones."""
    found = {0: {t: e for t, e in first.items() if t in DESCRIPTIVE - set(SUB_DIRECTORIES)}}
    for tag in (EXIF_IFD, GPS_IFD):
        sub = _sub(block, first, tag)
        if sub:
            found[tag] = {t: e for t, e in sub.items() if t != INTEROP_IFD}
            interop = _sub(block, sub, INTEROP_IFD)
            if interop:
                found[INTEROP_IFD] = interop
    return found


def from_tiff(block: Block, first: Directory) -> bytes | None:
    """An EXIF block of what a TIFF's first directory says; None where it says nothing."""
    found = directories(block, first)
    if not found[0] and len(found) == 1:
        return None
    head = (b"II*\0" if block.order == "<" else b"MM\0*") + struct.pack(block.order + "I", 8)
    return head + write(found, found[0], 8, block.order)


def in_order(raw: bytes, order: str) -> dict[int, Directory]:
    """The ``directories`` of a block, in another byte order."""
    block = tags.open_block(raw)
    first, _ = tags.read_directory(block, block.first)
    return {
        key: {tag: tags.swapped(entry, block.order, order) for tag, entry in part.items()}
        for key, part in directories(block, first).items()
    }


def write(
    found: dict[int, Directory],
    first: Directory,
    offset: int,
    order: str,
    *,
    big: bool = False,
) -> bytes:
    """``first`` to stand at ``offset`` (even), and behind it the sub-directories of ``found``."""
    # 1. Who points to each sub-directory; the pointers are entries of their own.
    placed, subs = dict(first), {t: dict(d) for t, d in found.items() if t}
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
    out = b""
    for directory in (placed, *subs.values()):
        out += tags.write_directory(directory, offset + len(out), order, big=big)
        out += b"\0" * (len(out) % 2)
    return out


def _pointer(at: int, order: str, big: bool) -> Entry:
    return tags.long8([at], order) if big else tags.long(at, order)


def _even(length: int) -> int:
    return length + length % 2
