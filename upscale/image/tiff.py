"""TIFF 6.0 and BigTIFF: what libvips does not tell, and the EXIF that it loses.

The directories are read for the number of pages, for kinds that are refused by name, and for
metadata; libvips is given a directory of those tags alone that make pixels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from upscale.errors import ImageError
from upscale.image.identify import RAW
from upscale.image.source import Header, Pieces
from upscale.metadata import tags
from upscale.metadata.data import Data
from upscale.metadata.tags import PREMULTIPLIED, STRAIGHT, Block, Directory, Tag, TagError
from upscale.metadata.tiff import metadata_of

PIXEL_TAGS = {*range(256, 260), 262, 266, 273, *range(277, 280), 284, 292, 293, 317, 320}
PIXEL_TAGS |= {*range(322, 326), 338, 339, 347, *range(529, 533)}
MASK, REDUCED = 4, 1  # kinds of subfiles
MOST_PAGES, MOST_SAMPLES = 65536, 16
MOST_STRIP = 50_000_000  # bytes of one strip, of which libtiff asks to be told
MOSAICS = (32803, 34892)
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}  # channels of each photometric kind
REFUSED = {4: "a transparency mask", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*"}
REFUSED |= {32844: "HDR (LogL)", 32845: "HDR (LogLuv)"}
NUMBERS = {1: "unsigned", 2: "signed integer", 3: "floating point", 5: "complex", 6: "complex"}
RATIO = {1: 1, 2: 1000, 3: 1000, 5: 2800, 7: 1000, 8: 1033, 32773: 64, 32946: 1033}
MOST_RATIO = 100_000  # of the others: what a byte becomes at most
COMPRESSIONS = {*RATIO, 4, 50001}
OTHERS = {6: "old JPEG", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 50000: "Zstandard"}


@dataclass(frozen=True)
class Page:
    """The directory of the picture in a file, and how many pages there are."""

    block: Block
    directory: Directory
    pages: int

    def number(self, tag: int, default: int = 0) -> int:
        """The first value of a tag."""
        return tags.number(self.directory, tag, self.block.order, default)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """All values of a tag."""
        entry = self.directory.get(tag)
        return tuple(int(v) for v in tags.numbers(entry, self.block.order)) if entry else ()

    def row_bytes(self, rows: int) -> int:
        """Bytes of the pixels of so many rows."""
        bits = self.number(Tag.SAMPLES, 1) * self.number(Tag.BITS, 1)
        return rows * self.number(Tag.WIDTH) * bits // 8


def header(data: Data) -> Header:
    """Read the directories.

    Raises:
        ImageError: Damaged, a RAW file, or stored in a way that is not read.
    """
    page = _read_page(data)
    extra = _check_samples(page)
    _check_storage(page, len(data))
    unknown = extra and page.number(Tag.EXTRA_SAMPLES) not in (PREMULTIPLIED, STRAIGHT)
    notes = ("the extra channel of unknown meaning is taken as alpha",) if unknown else ()
    height = page.number(Tag.HEIGHT)
    rows = page.number(Tag.ROWS_PER_STRIP, height) or height
    strip = 0 if Tag.TILE_WIDTH in page.directory else min(rows, height)
    return Header(
        metadata_of(page.block, page.directory, notes),
        (page.number(Tag.WIDTH), page.number(Tag.HEIGHT)),
        _pieces(page, len(data)),
        "CMYK" if page.number(Tag.PHOTOMETRIC, 1) == 5 else "",
        page.pages,
        unlimited=page.row_bytes(strip) > MOST_STRIP,
    )


def _read_page(data: Data) -> Page:
    """Follow the chain of directories; thumbnails and masks are no pages."""
    try:
        block = tags.open_block(data)
        offset, seen, pages, first = block.first, set[int](), 0, None
        raw, room = data[8:10] == b"CR", len(data)
        while offset and offset not in seen and len(seen) < MOST_PAGES:
            seen.add(offset)
            room -= tags.directory_length(block, offset)
            if room < 0:
                raise TagError("its directories overlap")
            directory, offset = tags.read_directory(block, offset, PIXEL_TAGS)
            raw = raw or _is_raw(block, directory)
            kind = tags.number(directory, Tag.SUBFILE, block.order)
            if first is None or not kind & (MASK | REDUCED):
                first = directory if first is None else first
                pages += 1
    except (TagError, struct.error) as error:
        raise ImageError(f"the TIFF is damaged: {error}; save it again") from error
    if first is None:
        raise ImageError("the TIFF has no picture in it; save it again")
    if raw:
        raise ImageError(f"this is {RAW}")
    return Page(block, first, pages)


def _is_raw(block: Block, directory: Directory) -> bool:
    """Whether it, or a directory below it, holds a RAW mosaic, as in the files of most cameras."""
    found = [directory]
    below = directory.get(Tag.SUB_IFDS)
    for offset in tags.numbers(below, block.order)[:16] if below else ():
        try:
            found.append(tags.read_directory(block, int(offset))[0])
        except TagError:
            continue
    kinds = {tags.number(d, Tag.PHOTOMETRIC, block.order) for d in found}
    return Tag.DNG_VERSION in directory or bool(kinds & set(MOSAICS))


def _check_samples(page: Page) -> int:
    """How many channels there are beside those of colour; kinds that are not read are refused."""
    photometric, samples = page.number(Tag.PHOTOMETRIC, 1), page.number(Tag.SAMPLES, 1)
    bits, kinds = set(page.numbers(Tag.BITS) or (1,)), set(page.numbers(Tag.SAMPLE_FORMAT)) or {1}
    if photometric in REFUSED:
        raise ImageError(f"this TIFF is {REFUSED[photometric]}; convert it to RGB first")
    if len(bits) != 1 or len(kinds) != 1:
        raise ImageError(f"this TIFF has channels of {sorted(bits)} bits; convert it to 8 or 16")
    bit, kind = bits.pop(), kinds.pop()
    if bit not in {1: (1, 2, 4, 8, 16), 4: (8, 16), 3: (16, 32)}.get(kind, ()):
        raise ImageError(
            f"this TIFF has {bit}-bit {NUMBERS.get(kind, 'unknown')} pixels; convert it to 8 or 16 "
            "bits or to 32-bit floating point"
        )
    colours = COLOURS.get(photometric, 0)
    extra = samples - colours
    if not colours or not 0 <= extra <= (photometric in (0, 1, 2)):
        raise ImageError(
            f"this TIFF has {samples} channels of photometric kind {photometric}; keep gray, RGB, "
            "or CMYK, and at most one alpha channel"
        )
    if photometric == 5 and bit != 8:
        raise ImageError(f"this TIFF is CMYK of {bit} bits; convert it to 8 bits, or to RGB")
    return extra


def _check_storage(page: Page, length: int) -> None:
    """Refuse what libvips does not decode, and sizes that the bytes cannot hold."""
    packing, tiled = page.number(Tag.COMPRESSION, 1), Tag.TILE_WIDTH in page.directory
    if packing not in COMPRESSIONS:
        name = OTHERS.get(packing, str(packing))
        raise ImageError(f"TIFF compression {name} is not read; save it with Deflate or LZW")
    if tiled and page.number(Tag.PLANAR, 1) == 2 and page.number(Tag.SAMPLES, 1) > 1:
        raise ImageError(
            "this TIFF has tiles of single channels; save it with the channels together"
        )
    width, height = page.number(Tag.WIDTH), page.number(Tag.HEIGHT)
    where = (Tag.TILE_OFFSETS, Tag.TILE_COUNTS) if tiled else (Tag.OFFSETS, Tag.COUNTS)
    offsets, counts = map(page.numbers, where)
    if any(o + c > length for o, c in zip(offsets, counts, strict=False)):
        raise ImageError("the TIFF is cut short: segments lie beyond its end; fetch it again")
    if page.row_bytes(height) > min(sum(counts), length) * RATIO.get(packing, MOST_RATIO):
        raise ImageError(f"the TIFF is damaged: its data cannot hold {width} x {height} pixels")


def _pieces(page: Page, length: int) -> Pieces:
    """The file with another directory, of tags that make pixels alone.

    Alpha is called straight in it: libvips would divide by a premultiplied one, and round.
    """
    block = page.block
    kept = {tag: entry for tag, entry in page.directory.items() if tag in PIXEL_TAGS}
    if Tag.EXTRA_SAMPLES in kept:
        kept[Tag.EXTRA_SAMPLES] = tags.short(STRAIGHT, block.order)
    at, start = length + length % 2, 16 if block.big else 8
    if not block.big and at >= 2**32:
        raise ImageError("the TIFF is larger than its kind may be (4 GB); save it as BigTIFF")
    where = struct.pack(block.order + ("Q" if block.big else "I"), at)
    head = block.data[: start - len(where)] + where
    directory = tags.write_directory(kept, at, block.order, big=block.big)
    return head, slice(start, None), bytes(length % 2), directory
