"""TIFF 6.0 and BigTIFF: what libvips does not tell, and the EXIF that it loses.

The directories are read for the number of pages, for kinds that are refused by name, and for
metadata; libvips is given a directory of those tags alone that make pixels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from upscale.errors import ImageError
from upscale.image.source import Header, Pieces
from upscale.metadata import tags
from upscale.metadata.data import Data
from upscale.metadata.tags import Block, Directory, TagError
from upscale.metadata.tiff import metadata_of

SUBFILE, SUB_IFDS, DNG_VERSION = 254, 330, 50706
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR = 256, 257, 258, 259, 262, 277, 284
OFFSETS, COUNTS, ROWS_PER_STRIP = 273, 279, 278
TILE_WIDTH, TILE_OFFSETS, TILE_COUNTS = 322, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT = 338, 339
PIXEL_TAGS = {*range(256, 260), 262, 266, 273, *range(277, 280), 284, 292, 293, 317, 320}
PIXEL_TAGS |= {*range(322, 326), 338, 339, 347, *range(529, 533)}
MASK, REDUCED = 4, 1  # kinds of subfiles
PREMULTIPLIED, STRAIGHT = 1, 2  # kinds of extra samples
MOST_PAGES, MOST_SAMPLES = 65536, 16
LONGEST_SIDE = 10_000_000  # that libvips reads
MOST_STRIP = 50_000_000  # bytes of one strip, of which libtiff asks to be told
MOSAICS = (32803, 34892)
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}  # channels of each photometric kind
REFUSED = {
    4: "a transparency mask",
    8: "CIE L*a*b*",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32844: "HDR (LogL)",
    32845: "HDR (LogLuv)",
}
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
    raw: bool

    def number(self, tag: int, default: int = 0) -> int:
        """The first value of a tag."""
        return tags.number(self.directory, tag, self.block.order, default)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """All values of a tag."""
        entry = self.directory.get(tag)
        return tuple(int(v) for v in tags.numbers(entry, self.block.order)) if entry else ()


def header(data: Data) -> Header:
    """Read the directories.

    Raises:
        ImageError: Damaged, a RAW file, or stored in a way that is not read.
    """
    page = read_page(data)
    if page.raw:
        raise ImageError("this is a RAW file of a camera; develop it to TIFF or PNG first")
    extra = _check_samples(page)
    _check_storage(page, len(data))
    photometric, bits = page.number(PHOTOMETRIC, 1), (page.numbers(BITS) or (1,))[0]
    unknown = extra and page.number(EXTRA_SAMPLES) not in (PREMULTIPLIED, STRAIGHT)
    notes = ("the extra channel of unknown meaning is taken as alpha",) if unknown else ()
    return Header(
        metadata_of(page.block, page.directory, notes),
        _pieces(page, len(data)),
        "1 bit" if bits == 1 else {3: "palette", 5: "CMYK"}.get(photometric, ""),
        page.pages,
        unlimited=_strip_bytes(page) > MOST_STRIP,
    )


def read_page(data: Data) -> Page:
    """Follow the chain of directories; thumbnails and masks are no pages.

    Raises:
        ImageError: Damaged.
    """
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
            if first is None or not tags.number(directory, SUBFILE, block.order) & (MASK | REDUCED):
                first = directory if first is None else first
                pages += 1
    except (TagError, struct.error) as error:
        raise ImageError(f"the TIFF is damaged: {error}; save it again") from error
    if first is None:
        raise ImageError("the TIFF has no picture in it; save it again")
    return Page(block, first, pages, raw)


def _is_raw(block: Block, directory: Directory) -> bool:
    """Whether it, or a directory below it, holds a RAW mosaic, as in the files of most cameras."""
    found = [directory]
    below = tags.numbers(directory[SUB_IFDS], block.order)[:16] if SUB_IFDS in directory else ()
    for offset in below:
        try:
            found.append(tags.read_directory(block, int(offset))[0])
        except TagError:
            continue
    kinds = {tags.number(d, PHOTOMETRIC, block.order) for d in found}
    return DNG_VERSION in directory or bool(kinds & set(MOSAICS))


def _check_samples(page: Page) -> int:
    """How many channels there are beside those of colour.

    Raises:
        ImageError: A kind of samples that is not read; the message says which.
    """
    photometric, samples = page.number(PHOTOMETRIC, 1), page.number(SAMPLES, 1)
    bits, kinds = set(page.numbers(BITS) or (1,)), set(page.numbers(SAMPLE_FORMAT)) or {1}
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
    """Refuse what libvips does not decode, and sizes that the bytes cannot hold.

    Raises:
        ImageError: With the compression or layout, or the size.
    """
    packing, tiled = page.number(COMPRESSION, 1), TILE_WIDTH in page.directory
    if packing not in COMPRESSIONS:
        name = OTHERS.get(packing, str(packing))
        raise ImageError(f"TIFF compression {name} is not read; save it with Deflate or LZW")
    samples = page.number(SAMPLES, 1)
    if tiled and page.number(PLANAR, 1) == 2 and samples > 1:
        raise ImageError(
            "this TIFF has tiles of single channels; save it with the channels together"
        )
    width, height = page.number(WIDTH), page.number(HEIGHT)
    offsets, counts = (
        page.numbers(t) for t in ((TILE_OFFSETS, TILE_COUNTS) if tiled else (OFFSETS, COUNTS))
    )
    if any(o + c > length for o, c in zip(offsets, counts, strict=False)):
        raise ImageError("the TIFF is cut short: segments lie beyond its end; fetch it again")
    if max(width, height) > LONGEST_SIDE:
        raise ImageError(f"this TIFF is {width} x {height}; libvips reads 10 million pixels a side")
    need = width * height * samples * (page.numbers(BITS) or (1,))[0] // 8
    if need > min(sum(counts), length) * RATIO.get(packing, MOST_RATIO):
        raise ImageError(f"the TIFF is damaged: its data cannot hold {width} x {height} pixels")


def _strip_bytes(page: Page) -> int:
    """Bytes of the pixels of one strip; 0 where there are tiles."""
    if TILE_WIDTH in page.directory:
        return 0
    height = page.number(HEIGHT)
    rows = min(page.number(ROWS_PER_STRIP, height) or height, height)
    return (
        rows * page.number(WIDTH) * page.number(SAMPLES, 1) * (page.numbers(BITS) or (1,))[0] // 8
    )


def _pieces(page: Page, length: int) -> Pieces:
    """The file with another directory, of tags that make pixels alone.

    Alpha is called straight in it: libvips would divide by a premultiplied one, and round.
    """
    block = page.block
    kept = {tag: entry for tag, entry in page.directory.items() if tag in PIXEL_TAGS}
    if EXTRA_SAMPLES in kept:
        kept[EXTRA_SAMPLES] = tags.short(STRAIGHT, block.order)
    at, start = length + length % 2, 16 if block.big else 8
    if not block.big and at >= 2**32:
        raise ImageError("the TIFF is larger than its kind may be (4 GB); save it as BigTIFF")
    where = struct.pack(block.order + ("Q" if block.big else "I"), at)
    head = block.data[: start - len(where)] + where
    directory = tags.write_directory(kept, at, block.order, big=block.big)
    return head, slice(start, None), bytes(length % 2), directory
