"""The metadata in the directory of a TIFF, read, and written behind the pixels."""

from __future__ import annotations

import struct
from typing import BinaryIO

from upscale.metadata import exif, tags
from upscale.metadata.data import Data
from upscale.metadata.fields import Metadata
from upscale.metadata.photoshop import iptc_of
from upscale.metadata.tags import PREMULTIPLIED, STRAIGHT, Block, Directory, Entry, Tag

ICC, XMP, IPTC, PHOTOSHOP = 34675, 700, 33723, 34377
PALETTE = 3


def metadata_of(block: Block, d: Directory, notes: tuple[str, ...] = ()) -> Metadata:
    """What a directory says beside how the pixels are stored."""
    raw = {tag: d[tag].value for tag in (ICC, XMP, IPTC, PHOTOSHOP) if tag in d}
    iptc = raw.get(IPTC)
    if iptc and d[IPTC].type == tags.LONG and iptc[:1] != b"\x1c":  # written in the wrong order
        iptc = tags.swapped(d[IPTC], "<", ">").value
    orientation = tags.number(d, exif.ORIENTATION, block.order, 1)
    return Metadata(
        format="tiff",
        icc=raw.get(ICC),
        exif=exif.from_tiff(block, d),
        xmp=raw.get(XMP),
        iptc=iptc or iptc_of(raw.get(PHOTOSHOP, b"")),
        dpi=exif.dpi_of(d, block.order),
        palette=tags.number(d, Tag.PHOTOMETRIC, block.order) == PALETTE,
        bilevel=tags.number(d, Tag.BITS, block.order, 1) == 1,
        premultiplied=tags.number(d, Tag.EXTRA_SAMPLES, block.order) == PREMULTIPLIED,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        notes=notes,
    )


def finish(file: BinaryIO, data: Data, metadata: Metadata, *, alpha: bool) -> None:
    """Put a directory that has the metadata in the place of the one that libvips has written.

    Args:
        file: A TIFF in strips, behind which its one directory stands; readable.
        data: The bytes of the file.
        metadata: As they are to be written.
        alpha: The last channel is alpha.
    """
    # 1. The directory as it is, with what is said here of resolution, alpha and metadata.
    block = tags.open_block(data)
    first, _ = tags.read_directory(block, block.first)
    order = block.order
    for tag in (exif.X_RESOLUTION, exif.Y_RESOLUTION, exif.RESOLUTION_UNIT):
        first.pop(tag, None)
    if metadata.dpi:
        x, y = (tags.rational(v, order) for v in metadata.dpi)
        first |= {exif.X_RESOLUTION: x, exif.Y_RESOLUTION: y}
        first[exif.RESOLUTION_UNIT] = tags.short(2, order)
    if alpha:
        first[Tag.EXTRA_SAMPLES] = tags.short(
            PREMULTIPLIED if metadata.premultiplied else STRAIGHT, order
        )
    for tag, value, kind in (
        (ICC, metadata.icc, tags.UNDEFINED),
        (XMP, metadata.xmp, tags.BYTE),
        (IPTC, metadata.iptc, tags.UNDEFINED),
    ):
        if value:
            first[tag] = Entry(kind, len(value), value)
    # 2. The new one stands behind the last strip, over the old one, with EXIF behind it.
    places = zip(
        *(tags.numbers(first[tag], order) for tag in (Tag.OFFSETS, Tag.COUNTS)), strict=True
    )
    end = int(max(offset + count for offset, count in places))
    at = end + end % 2
    found: dict[int, Directory] = exif.in_order(metadata.exif, order) if metadata.exif else {}
    file.seek(end)
    file.write(bytes(end % 2))
    file.write(exif.write(found, found.get(0, {}) | first, at, order, big=block.big))
    file.truncate()
    # 3. The header points to it.
    file.seek(8 if block.big else 4)
    file.write(struct.pack(order + ("Q" if block.big else "I"), at))
