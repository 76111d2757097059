"""TIFF 6.0 and BigTIFF in: directories read here, pixels by libvips.

The directories are read for pages, for kinds that are refused by name, and for metadata. libvips is
given a directory of those tags alone that make pixels, with what is missing in it put right: so
libtiff has nothing to warn of but lost pixels.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np

from upscale.errors import ImageError
from upscale.image import exif, tags
from upscale.image.metadata import Metadata, Native, resources
from upscale.image.model import Pixels, Structure
from upscale.image.source import RAW, Data, Pieces
from upscale.image.tags import PREMULTIPLIED, STRAIGHT, Block, Directory, Tag, TagError

PIXEL_TAGS = {*range(256, 260), 262, 266, 273, *range(277, 280), 284, 292, 293, 317, 320}
PIXEL_TAGS |= {*range(322, 326), 338, 339, 347, *range(529, 533)}
ICC, XMP, IPTC, PHOTOSHOP = 34675, 700, 33723, 34377
RESOLUTION = (exif.X_RESOLUTION, exif.Y_RESOLUTION, exif.RESOLUTION_UNIT)
# What says how pixels are stored or is read elsewhere; the rest of a directory travels.
STORAGE = PIXEL_TAGS | {254, 255, 263, 264, 265, 274, 280, 281, 288, 289, 290, 291, 297}
STORAGE |= {321, 330, *range(332, 338), 340, 341, 343, *range(351, 354), *range(512, 522), 559}
STORAGE |= {ICC, XMP, IPTC, PHOTOSHOP, exif.EXIF_IFD, exif.GPS_IFD, exif.INTEROP_IFD}
STALE = {34412: "Zeiss LSM", 37724: "Photoshop layers", 50255: "Photoshop annotations"}
STALE |= dict.fromkeys(range(33628, 33632), "MetaMorph") | {34680: "FEI", 34682: "FEI"}
STALE |= {51023: "Fibics"}  # they tell of other pixels
GEO = {33550, 33922, 34264, 34735, 34736, 34737}
OVERLAYS = re.compile(rb"roi |over| ior|revo")  # of ImageJ, in pixels
NAMES = dict.fromkeys(GEO, "GeoTIFF") | {42112: "GDAL", 42113: "GDAL"}
NAMES |= {301: "transfer curve", 318: "white point", 319: "primaries"}
NAMES |= {50838: "ImageJ", 50839: "ImageJ"} | dict.fromkeys(RESOLUTION, "resolution without a unit")
MASK, REDUCED = 4, 1  # kinds of subfiles
MOST_PAGES, MOST_SAMPLES = 65536, 16
MOST_STRIP = 50_000_000  # bytes of one strip, of which libtiff asks to be told
MOSAICS = (32803, 34892)
PALETTE, CMYK, YCBCR = 3, 5, 6
LZW, JPEG = 5, 7  # compressions
COLOURS = {0: 1, 1: 1, 2: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}  # channels of each photometric kind
REFUSED = {4: "a transparency mask", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*"}
REFUSED |= {32844: "HDR (LogL)", 32845: "HDR (LogLuv)"}
NUMBERS = {1: "unsigned", 2: "signed integer", 3: "floating point", 5: "complex", 6: "complex"}
RATIO = {1: 1, 2: 1000, 3: 1000, 5: 2800, 7: 1000, 8: 1033, 32773: 64, 32946: 1033}
MOST_RATIO = 100_000  # of the others: what a byte becomes at most
COMPRESSIONS = {*RATIO, 4, 50001}
OTHERS = {6: "old JPEG", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 50000: "Zstandard"}


@dataclass(frozen=True)
class TiffPage:
    """The directory of a picture in a file, put right."""

    block: Block
    directory: Directory

    def number(self, tag: int, default: int = 0) -> int:
        """The first value of a tag."""
        return tags.number(self.directory, tag, self.block.order, default)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """All values of a tag."""
        return tuple(int(v) for v in exif.numbers_of(self.directory, tag, self.block.order))

    @property
    def square(self) -> bool:
        """Whether the resolution is the same in width and height."""
        x, y = (self.numbers(tag) for tag in RESOLUTION[:2])
        return x == y

    def row_bytes(self, rows: int) -> int:
        """Bytes of the pixels of so many rows."""
        bits = self.number(Tag.SAMPLES, 1) * self.number(Tag.BITS, 1)
        return rows * self.number(Tag.WIDTH) * bits // 8


def structure(data: Data, place: int = 0) -> Structure:
    """Read the directories, and all of the first page; or of that whose directory is at ``place``.

    Raises:
        ImageError: Damaged, a RAW file, or stored in a way that is not read.
    """
    broken = False
    if place:
        block = tags.open_block(data)
        pages = {place: tags.read_directory(block, place, PIXEL_TAGS)[0]}
    else:
        block, pages, broken = _pages(data)
    page = _completed(TiffPage(block, next(iter(pages.values()))), len(data))
    extra = _check_samples(page)
    _check_storage(page, len(data))
    unknown = extra and page.number(Tag.EXTRA_SAMPLES) not in (PREMULTIPLIED, STRAIGHT)
    notes = ["the extra channel of unknown meaning is taken as alpha"] if unknown else []
    notes += ["what should be further pages is damaged and left out"] if broken else []
    height, colour = page.number(Tag.HEIGHT), page.number(Tag.PHOTOMETRIC)
    rows = page.number(Tag.ROWS_PER_STRIP, height) or height
    strip = 0 if Tag.TILE_WIDTH in page.directory else min(rows, height)
    return Structure(
        _metadata(page, notes),
        (page.number(Tag.WIDTH), height),
        _pieces(page, len(data)),
        "CMYK" if colour == CMYK else "YCbCr" if _is_bare_ycbcr(page) else "",
        3 if colour in (PALETTE, YCBCR) else COLOURS[colour] + extra,
        len(pages),
        unlimited=page.row_bytes(strip) > MOST_STRIP,
        fail_on="error" if _is_old_lzw(page) else "warning",
    )


def places(data: Data) -> list[int]:
    """Where the directories of the pages are."""
    return list(_pages(data)[1])


def _pages(data: Data) -> tuple[Block, dict[int, Directory], bool]:
    """Follow the chain of directories; thumbnails and masks are no pages where others are.

    The last of what is given: the chain leads to what is no directory.
    """
    pages: dict[int, Directory] = {}
    aside: dict[int, Directory] = {}
    broken = False
    try:
        block = tags.open_block(data)
        offset, seen = block.first, set[int]()
        raw, room = data[8:10] == b"CR", len(data)
        least, most = (28, 8 + 20 * 512) if block.big else (14, 2 + 12 * 512)
        while offset and offset not in seen and len(seen) < MOST_PAGES:
            seen.add(offset)
            length = tags.directory_length(block, offset)
            likely = least <= length <= most or offset + length <= len(data)
            if (pages or aside) and (length < least or not likely):
                broken = True  # what lies there is no directory, and what came before is whole
                break
            room -= length
            if room < 0:
                raise TagError("its directories overlap")
            directory, following = tags.read_directory(block, offset, PIXEL_TAGS)
            raw = raw or _is_raw(block, directory)
            small = tags.number(directory, Tag.SUBFILE, block.order) & (MASK | REDUCED)
            (aside if small else pages)[offset] = directory
            offset = following
    except (TagError, struct.error) as error:
        raise ImageError(f"the TIFF is damaged: {error}; save it again") from error
    if not (pages or aside):
        raise ImageError("the TIFF has no picture in it; save it again")
    if raw:
        raise ImageError(f"this is {RAW}")
    return block, pages or dict([*aside.items()][:1]), broken


def _is_raw(block: Block, directory: Directory) -> bool:
    """Whether it, or a directory below it, holds a RAW mosaic, as in the files of most cameras."""
    directories = [directory]
    below = directory.get(Tag.SUB_IFDS)
    for offset in tags.numbers(below, block.order)[:16] if below else ():
        try:
            directories.append(tags.read_directory(block, int(offset))[0])
        except TagError:
            continue
    kinds = {tags.number(d, Tag.PHOTOMETRIC, block.order) for d in directories}
    return Tag.DNG_VERSION in directory or bool(kinds & set(MOSAICS))


def _completed(page: TiffPage, length: int) -> TiffPage:
    """The page with tags that are missing, as other programs guess them."""
    d, order = dict(page.directory), page.block.order
    samples = page.number(Tag.SAMPLES, 1)
    if Tag.PHOTOMETRIC not in d:
        d[Tag.PHOTOMETRIC] = tags.short(2 if samples > 2 else 1, order)
    if Tag.TILE_WIDTH in d:  # some programs call the places of tiles those of strips
        for tile, strip in ((Tag.TILE_OFFSETS, Tag.OFFSETS), (Tag.TILE_COUNTS, Tag.COUNTS)):
            if tile not in d and strip in d:
                d[tile] = d.pop(strip)
    elif Tag.COUNTS not in d and Tag.OFFSETS in d:
        offsets = [*page.numbers(Tag.OFFSETS)]
        rows = page.number(Tag.ROWS_PER_STRIP) or page.number(Tag.HEIGHT)
        plain = page.number(Tag.COMPRESSION, 1) == 1
        most = page.row_bytes(rows) if plain else length
        ends = [min([o for o in offsets if o > at] + [length]) for at in offsets]
        counts = [max(0, min(most, end - at)) for at, end in zip(offsets, ends, strict=True)]
        d[Tag.COUNTS] = tags.long(counts, order)
    return TiffPage(page.block, d)


def _check_samples(page: TiffPage) -> int:
    """How many channels there are beside those of colour; kinds that are not read are refused."""
    photometric, samples = page.number(Tag.PHOTOMETRIC, 1), page.number(Tag.SAMPLES, 1)
    bits, kinds = set(page.numbers(Tag.BITS) or (1,)), set(page.numbers(Tag.SAMPLE_FORMAT)) or {1}
    if photometric in REFUSED:
        raise ImageError(f"this TIFF is {REFUSED[photometric]}; convert it to RGB first")
    if len(bits) != 1 or len(kinds) != 1:
        raise ImageError(f"this TIFF has channels of {sorted(bits)} bits; convert it to 8 or 16")
    bit, kind = bits.pop(), kinds.pop()
    kind = 1 if kind == 4 else kind  # "undefined" is taken as whole numbers
    if bit not in {1: (1, 2, 4, 8, 16), 3: (16, 32)}.get(kind, ()):
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
    if photometric == CMYK and bit != 8:
        raise ImageError(f"this TIFF is CMYK of {bit} bits; convert it to 8 bits, or to RGB")
    return extra


def _check_storage(page: TiffPage, length: int) -> None:
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
    size, most = page.row_bytes(height), min(sum(counts), length)
    if page.number(Tag.PHOTOMETRIC) == YCBCR and packing == 1:  # a quarter of the colour, or less
        size = width * height
    if size > most * RATIO.get(packing, MOST_RATIO):
        raise ImageError(f"the TIFF is damaged: its data cannot hold {width} x {height} pixels")


def _is_old_lzw(page: TiffPage) -> bool:
    """Whether its codes begin at the low bits, of which libtiff warns and reads every pixel."""
    offsets = page.numbers(Tag.OFFSETS) or page.numbers(Tag.TILE_OFFSETS) or (0,)
    first = page.block.data[offsets[0] : offsets[0] + 2]
    return page.number(Tag.COMPRESSION) == LZW and first[:1] == b"\0" and first[1] & 1 == 1


def _is_bare_ycbcr(page: TiffPage) -> bool:
    whole = (page.numbers(Tag.SUBSAMPLING) or (2, 2)) == (1, 1)
    packed = page.number(Tag.COMPRESSION, 1) == JPEG
    return page.number(Tag.PHOTOMETRIC) == YCBCR and whole and not packed


def from_ycbcr(band: Pixels) -> Pixels:
    """Full-range Y'CbCr of BT.601 to RGB, (h, W, 3) uint8: where libvips gives it as it stands."""
    y, cb, cr = (band[:, :, i].astype(np.float32) - (128 if i else 0) for i in range(3))
    rgb = (y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb)
    return np.asarray(np.clip(np.stack(rgb, -1) + 0.5, 0, 255).astype(np.uint8))


def _pieces(page: TiffPage, length: int) -> Pieces:
    """The file with another directory, of tags that make pixels alone.

    Alpha is called straight in it: libvips would divide by a premultiplied one, and round.
    """
    block = page.block
    kept = {tag: entry for tag, entry in page.directory.items() if tag in PIXEL_TAGS}
    kept.pop(Tag.EXTRA_SAMPLES, None)
    if page.number(Tag.SAMPLES, 1) > COLOURS[page.number(Tag.PHOTOMETRIC)]:
        kept[Tag.EXTRA_SAMPLES] = tags.short(STRAIGHT, block.order)
    at, start = length + length % 2, 16 if block.big else 8
    if not block.big and at >= 2**32:
        raise ImageError("the TIFF is larger than its kind may be (4 GB); save it as BigTIFF")
    where = struct.pack(block.order + ("Q" if block.big else "I"), at)
    head = block.data[: start - len(where)] + where
    directory = tags.write_directory(kept, at, block.order, big=block.big)
    return head, slice(start, None), bytes(length % 2), directory


def _metadata(page: TiffPage, notes: list[str]) -> Metadata:
    """What a directory says beside how the pixels are stored."""
    d, order = page.directory, page.block.order
    raw = {tag: d[tag].value for tag in (ICC, XMP, IPTC, PHOTOSHOP) if tag in d}
    iptc = raw.get(IPTC)
    if iptc and d[IPTC].type == tags.LONG and iptc[:1] != b"\x1c":  # written in the wrong order
        iptc = tags.swapped(d[IPTC], "<", ">").value
    inner, photoshop = resources(raw.get(PHOTOSHOP, b""))
    orientation = page.number(exif.ORIENTATION)
    lab = laboratory(tags.text(d, exif.DESCRIPTION))
    dpi = None if lab else exif.dpi_of(d, order)
    named = {exif.DESCRIPTION: lab} if lab else {}
    native: list[Native] = []
    for tag, entry in d.items():
        unit_less = tag in RESOLUTION and not dpi and RESOLUTION[0] in d
        if tag in STALE or (tag == 50839 and OVERLAYS.search(entry.value[:256])):
            note = f"{STALE.get(tag, 'ImageJ overlays')} left out: told of other pixels"
            notes += [note] if note not in notes else []
        elif tag in GEO and orientation > 1:
            note = "GeoTIFF left out: the picture was turned"
            notes += [note] if note not in notes else []
        elif tag in named or unit_less or tag not in STORAGE | exif.DESCRIPTIVE | {*RESOLUTION}:
            label = named.get(tag) or NAMES.get(tag, f"TIFF tag {tag}")
            if unit_less and not lab and page.square:
                label = ""  # which says nothing
            native.append((label, tag, tags.swapped(entry, order, "<")))
    if any("overlays" in note for note in notes):
        native = [item for item in native if item[1] != 50838]  # the lengths of what is gone
    return Metadata(
        format="tiff",
        icc=raw.get(ICC),
        exif=exif.from_tiff(page.block, d, exif.DESCRIPTIVE - set(named)),
        xmp=raw.get(XMP),
        iptc=iptc or inner,
        photoshop=photoshop,
        dpi=dpi,
        native=tuple(native),
        palette=page.number(Tag.PHOTOMETRIC) == PALETTE,
        bilevel=page.number(Tag.BITS, 1) == 1,
        premultiplied=page.number(Tag.EXTRA_SAMPLES) == PREMULTIPLIED,
        orientation=orientation if 0 <= orientation <= 8 else 0,
        notes=tuple(notes),
    )


def laboratory(description: str) -> str:
    """Whose description of a measurement it is, "" where it is one in words."""
    return (
        "OME-XML"
        if "<OME" in description[:4096] or "<ome:OME" in description[:4096]
        else "ImageJ"
        if description.startswith("ImageJ=")
        else ""
    )
