"""TIFF 6.0 and BigTIFF read: directories and metadata here, pixels in ``tiff_pixels``.

tifffile was tried first; it fills what a damaged file lacks with zeros, needs a second package for
LZW, and does not give the EXIF directory, so the structure is read here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from upscale.errors import ImageError
from upscale.image import exif, tags, tiff_pixels
from upscale.image.data import Data
from upscale.image.model import Image, Info, Metadata, Pixels, check_size
from upscale.image.photoshop import iptc_of
from upscale.image.tags import Block, Directory, TagError
from upscale.image.tiff_pixels import (
    BLACK_IS_ZERO,
    CMYK,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    Layout,
)

SUBFILE, SUB_IFDS, ICC, XMP, IPTC, PHOTOSHOP = 254, 330, 34675, 700, 33723, 34377
EXTRA_SAMPLES, SAMPLE_FORMAT, COLOR_MAP, DNG_VERSION = 338, 339, 320, 50706
MOST_PAGES, MOST_SAMPLES = 65536, 16
MASK, REDUCED = 4, 1
PHOTOMETRIC = {
    4: "a transparency mask",
    8: "CIE L*a*b*",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32803: "a RAW mosaic (CFA)",
    34892: "linear RAW",
    32844: "HDR (LogL)",
    32845: "HDR (LogLuv)",
}
FORMATS = {
    1: "unsigned",
    2: "signed integer",
    3: "floating point",
    4: "undefined",
    5: "complex",
    6: "complex",
}


@dataclass(frozen=True)
class Page:
    """The directory of the picture in a file, and how many pages there are."""

    block: Block
    directory: Directory
    pages: int
    raw: bool

    @property
    def orientation(self) -> int:
        """EXIF orientation, 1 to 8."""
        found = self.number(exif.ORIENTATION, 1)
        return found if 1 <= found <= 8 else 1

    def number(self, tag: int, default: int = 0) -> int:
        """The first value of a tag."""
        return tags.number(self.directory, tag, self.block.order, default)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """All values of a tag."""
        entry = self.directory.get(tag)
        return tuple(int(v) for v in tags.numbers(entry, self.block.order)) if entry else ()


def read_page(data: Data) -> Page:
    """Follow the chain of directories; thumbnails and masks are no pages.

    Raises:
        ImageError: Damaged, or a RAW file.
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
            directory, offset = tags.read_directory(block, offset)
            kind = tags.number(directory, SUBFILE, block.order)
            raw = raw or DNG_VERSION in directory
            raw = raw or tags.number(directory, 262, block.order) in (32803, 34892)
            raw = raw or (SUB_IFDS in directory and _has_mosaic(block, directory))
            if not kind & (MASK | REDUCED) or first is None:
                first = directory if first is None else first
                pages += 1
    except (TagError, struct.error) as error:
        raise ImageError(f"the TIFF is damaged: {error}; save it again") from error
    if first is None:
        raise ImageError("the TIFF has no picture in it; save it again")
    return Page(block, first, pages, raw)


def _has_mosaic(block: Block, directory: Directory) -> bool:
    """Whether a sub-directory holds a RAW mosaic, as in the files of most cameras."""
    for offset in tags.numbers(directory[SUB_IFDS], block.order)[:16]:
        try:
            sub, _ = tags.read_directory(block, int(offset))
        except TagError:
            continue
        if tags.number(sub, 262, block.order) in (32803, 34892):
            return True
    return False


def _layout(page: Page) -> Layout:
    """How the pixels are stored.

    Raises:
        ImageError: In a way that is not supported; the message says which.
    """
    bits = page.numbers(258) or (1,)
    samples = page.number(277, 1)
    if not 1 <= samples <= MOST_SAMPLES or len(bits) > MOST_SAMPLES:
        raise ImageError(f"this TIFF has {samples} channels; keep gray or RGB, and alpha")
    if samples != len(bits) and len(bits) == 1:
        bits = bits * samples
    kinds = set(page.numbers(SAMPLE_FORMAT)) or {1}
    photometric = page.number(262, BLACK_IS_ZERO)
    if photometric in PHOTOMETRIC:
        raise ImageError(f"this TIFF is {PHOTOMETRIC[photometric]}; convert it to RGB first")
    if len(set(bits)) != 1 or len(kinds) != 1:
        raise ImageError(f"this TIFF has channels of {bits} bits; convert it to 8 or 16 bits")
    kind = kinds.pop()
    allowed = {1: (1, 2, 4, 8, 16), 4: (8, 16), 3: (16, 32, 64)}.get(kind, ())
    if bits[0] not in allowed:
        raise ImageError(
            f"this TIFF has {bits[0]}-bit {FORMATS.get(kind, 'unknown')} pixels; convert it to 8 "
            "or 16 bits or to 32-bit floating point"
        )
    tiled = 322 in page.directory
    width, height = page.number(256), page.number(257)
    return Layout(
        block=page.block,
        directory=page.directory,
        width=width,
        height=height,
        samples=samples,
        bits=bits[0],
        floating=kind == 3,
        photometric=photometric,
        compression=page.number(259, 1),
        predictor=page.number(317, 1),
        planar=page.number(284, 1) == 2 and samples > 1,
        fill_order=page.number(266, 1),
        segment=(page.number(323), page.number(322))
        if tiled
        else (min(page.number(278, height) or height, height), width),
        offsets=page.numbers(324 if tiled else 273),
        counts=page.numbers(325 if tiled else 279),
    )


def _channels(page: Page, layout: Layout) -> tuple[int, str]:
    """Colour channels, and what the extra channel is: "", "straight", "premultiplied", "unknown".

    Raises:
        ImageError: A count of channels without a meaning here.
    """
    colours = {RGB: 3, YCBCR: 3, CMYK: 4}.get(layout.photometric, 1)
    extra = layout.samples - colours
    if extra == 0:
        return colours, ""
    if extra != 1 or layout.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        raise ImageError(
            f"this TIFF has {layout.samples} channels of photometric kind {layout.photometric}; "
            "keep gray, RGB, or CMYK, and at most one alpha channel"
        )
    kind = page.number(EXTRA_SAMPLES)
    return colours, {1: "premultiplied", 2: "straight"}.get(kind, "unknown")


def probe(data: bytes) -> Info:
    """What the directories say."""
    page = read_page(data)
    layout = _layout(page)
    colours, extra = _channels(page, layout)
    kind = {PALETTE: "palette", CMYK: "CMYK"}.get(layout.photometric, "")
    if layout.bits == 1:
        kind = "1 bit"
    channels = {PALETTE: 3, CMYK: 3}.get(layout.photometric, colours) + bool(extra)
    depth = 32 if layout.floating else max(8, layout.bits)
    size = (layout.width, layout.height)
    return Info("tiff", *size, depth, channels, page.pages, kind, metadata=_metadata(page, extra))


@dataclass(frozen=True)
class Picture:
    """What is needed to read the pixels of a page.

    ``colours`` is the table of a palette, (2**bits, 3) uint8.
    """

    layout: Layout
    metadata: Metadata
    colours: Pixels | None = None

    @property
    def channels(self) -> int:
        """As they are decoded."""
        return self.layout.samples if self.colours is None else 3

    def coloured(self, samples: Pixels) -> Pixels:
        """Samples as ``tiff_pixels`` gives them to pixels: palette indices become colours."""
        return samples if self.colours is None else self.colours[samples[:, :, 0]]


def picture_of(page: Page) -> Picture:
    """The picture of a page.

    Raises:
        ImageError: It is stored in a way that is not supported.
    """
    layout = _layout(page)
    _, extra = _channels(page, layout)
    colours = _palette(page, layout.bits) if layout.photometric == PALETTE else None
    return Picture(layout, _metadata(page, extra), colours)


def decode(data: bytes, max_pixels: int, assume: bytes | None) -> Image:
    """Bytes of a TIFF of one page to a picture.

    Raises:
        ImageError: Damaged, of several pages, RAW, or larger than ``max_pixels``.
    """
    page = read_page(data)
    if page.raw:
        raise ImageError("this is a RAW file of a camera; develop it to TIFF or PNG first")
    if page.pages > 1:
        raise ImageError(f"this TIFF has {page.pages} pages; split it into single pictures first")
    picture = picture_of(page)
    layout = picture.layout
    check_size(layout.width, layout.height, max_pixels)
    if layout.photometric == CMYK:
        return tiff_pixels.read_cmyk(layout, picture.metadata, assume)
    return Image(picture.coloured(tiff_pixels.read(layout)), picture.metadata)


def _palette(page: Page, bits: int) -> Pixels:
    values = page.numbers(COLOR_MAP)
    if len(values) != 3 << bits or bits > 8 or not 0 <= min(values) <= max(values) <= 65535:
        raise ImageError(f"the TIFF has a palette of {len(values)} values; save it as RGB")
    return np.asarray((np.array(values, np.uint16).reshape(3, -1).T >> 8).astype(np.uint8))


def _metadata(page: Page, extra: str) -> Metadata:
    d, order = page.directory, page.block.order
    raw = {tag: d[tag].value for tag in (ICC, XMP, IPTC, PHOTOSHOP) if tag in d}
    notes = ["the extra channel of unknown meaning is taken as alpha"] if extra == "unknown" else []
    iptc = raw.get(IPTC)
    if iptc and d[IPTC].type == tags.LONG and iptc[:1] != b"\x1c":  # written in the wrong order
        iptc = tags.swapped(d[IPTC], "<", ">").value
    return Metadata(
        format="tiff",
        icc=raw.get(ICC),
        exif=exif.from_tiff(page.block, d),
        xmp=raw.get(XMP),
        iptc=iptc or iptc_of(raw.get(PHOTOSHOP, b"")),
        dpi=exif.dpi_of(d, order),
        palette=page.number(262) == PALETTE,
        bilevel=(page.numbers(258) or (1,))[0] == 1,
        premultiplied=extra == "premultiplied",
        orientation=page.orientation,
        notes=tuple(notes),
    )
