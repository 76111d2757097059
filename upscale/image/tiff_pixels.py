"""The strips and tiles of a TIFF.

Uncompressed, Deflate, PackBits and LZMA segments are read here, each checked to hold exactly what
it must. LZW, JPEG, CCITT and Zstandard go to libtiff: Pillow's for 8 bits and less, OpenCV's above.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage

from upscale.errors import ImageError
from upscale.image import ccitt, cmyk, jpeg, lzw, tags
from upscale.image.model import Image, Metadata, Pixels
from upscale.image.tags import Block, Directory

NONE, LZW, JPEG, DEFLATE, PACKBITS, OLD_DEFLATE, LZMA = 1, 5, 7, 8, 32773, 32946, 34925
JPEG_TABLES, T4_OPTIONS = 347, 292
RATIO = {NONE: 1, PACKBITS: 64, DEFLATE: 1033, OLD_DEFLATE: 1033, LZW: 2800, LZMA: 10_000}
RATIO |= {JPEG: 1000, 2: 1000, 3: 1000, 4: 100_000}  # how much a byte can become at most
FAX = (2, 3, 4)
NAMES = {6: "old JPEG", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 34712: "JPEG 2000"}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6


@dataclass(frozen=True)
class Layout:
    """How the pixels of a page are stored; the names are those of TIFF 6.0.

    ``segment`` is the height and width of a strip or tile, ``offsets`` and ``counts`` say where
    they lie; ``planar``: each channel has its own segments.
    """

    block: Block
    directory: Directory
    width: int
    height: int
    samples: int
    bits: int
    floating: bool
    photometric: int
    compression: int
    predictor: int
    planar: bool
    fill_order: int
    segment: tuple[int, int]
    offsets: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def tiled(self) -> bool:
        """Whether segments are tiles and not strips."""
        return 322 in self.directory

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the samples as stored (below 8 bits: of the packed bytes)."""
        order = self.block.order
        if self.floating:
            return np.dtype(f"{order}f{self.bits // 8}")
        return np.dtype(f"{order}u2") if self.bits == 16 else np.dtype(np.uint8)


def read(layout: Layout) -> Pixels:
    """The samples, (H, W, C) uint8, uint16 or float32: full scale, 0 black; palette: indices.

    Raises:
        ImageError: Damaged, cut short, or of an unsupported compression.
    """
    _check(layout)
    if layout.compression == JPEG:
        return _read_jpeg(layout)
    if layout.photometric == YCBCR:
        raise ImageError("this TIFF is YCbCr without JPEG; save it as RGB")
    pixels = _read_segments(layout)
    if layout.bits < 8 and layout.photometric != PALETTE:
        pixels *= np.uint8(255 // (2**layout.bits - 1))
    return _black_is_zero(pixels, layout)


def _black_is_zero(pixels: Pixels, layout: Layout) -> Pixels:
    if layout.photometric == WHITE_IS_ZERO:
        pixels = pixels.copy()
        top = 1 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max
        pixels[:, :, 0] = top - pixels[:, :, 0]
    return pixels


def read_cmyk(layout: Layout, metadata: Metadata, assume: bytes | None) -> Image:
    """CMYK separations (8 bit) to an sRGB picture through their profile."""
    _check(layout)
    if layout.bits != 8 or layout.samples != 4 or layout.compression == JPEG:
        raise ImageError(
            f"this CMYK TIFF has {layout.samples} channels of {layout.bits} bits, or JPEG "
            "compression; convert it to 4 channels of 8 bits without JPEG, or to RGB"
        )
    separations = PillowImage.fromarray(np.ascontiguousarray(_read_segments(layout)), "CMYK")
    return cmyk.to_rgb(separations, metadata, assume)


def _grid(layout: Layout) -> tuple[int, int, int]:
    """Segments down, across, and per channel."""
    high, wide = layout.segment
    down, across = -(-layout.height // max(high, 1)), -(-layout.width // max(wide, 1))
    return down, across, layout.samples if layout.planar else 1


def _check(layout: Layout) -> None:
    """Refuse a table of segments that cannot be, before anything is allocated."""
    high, wide = layout.segment
    size = len(layout.block.data)
    if high < 1 or wide < 1 or not 1 <= layout.samples <= 16:
        raise ImageError("the TIFF has segments without pixels; it is damaged; save it again")
    if layout.tiled and high * wide > 4 * max(layout.width * layout.height, 2**20):
        raise ImageError(f"the TIFF has tiles of {wide} x {high}; it is damaged; save it again")
    down, across, planes = _grid(layout)
    if not len(layout.offsets) == len(layout.counts) == down * across * planes:
        raise ImageError(
            f"the TIFF lists {len(layout.offsets)} segments where {down * across * planes} are "
            "needed; it is damaged; save it again"
        )
    if any(o + c > size for o, c in zip(layout.offsets, layout.counts, strict=True)):
        raise ImageError("the TIFF is cut short: segments lie beyond its end; fetch it again")
    if min(layout.counts) < 1:
        raise ImageError("the TIFF has empty segments; it is damaged; save it again")
    need = layout.width * layout.height * layout.samples * layout.bits // 8
    if need > min(sum(layout.counts), size) * RATIO.get(layout.compression, 100_000):
        raise ImageError(
            f"the TIFF is damaged: its data cannot hold {layout.width} x {layout.height} pixels"
        )
    if layout.compression not in RATIO:
        name = NAMES.get(layout.compression, str(layout.compression))
        raise ImageError(f"TIFF compression {name} is not read; save it with Deflate or LZW")


def _read_jpeg(layout: Layout) -> Pixels:
    """Segments that are JPEG streams, whose tables may lie apart."""
    if layout.bits != 8 or layout.photometric not in (BLACK_IS_ZERO, RGB, YCBCR):
        raise ImageError("this TIFF has JPEG compression of unusual colours; save it with Deflate")
    shared = layout.directory.get(JPEG_TABLES)
    tables = shared.value[2:-2] if shared else b""
    out = np.empty((layout.height, layout.width, layout.samples), np.uint8)
    high, wide = layout.segment
    for plane, y, x, raw in _segments(layout):
        if raw[:2] != b"\xff\xd8":
            raise ImageError("the TIFF is damaged: a JPEG segment has no start; fetch it again")
        transform = int(layout.photometric == YCBCR)
        part = jpeg.decode_stream(raw[:2] + tables + raw[2:], transform)
        target = out[y : y + high, x : x + wide, plane : plane + part.shape[2]]
        part = part[: target.shape[0], : target.shape[1]]
        if part.shape != target.shape:
            raise ImageError("the TIFF is damaged: a JPEG segment is too small; fetch it again")
        target[...] = part
    return out


def _read_segments(layout: Layout) -> Pixels:
    high, wide = layout.segment
    packed = layout.bits < 8
    if packed and layout.predictor != 1:
        raise ImageError(f"the TIFF predicts {layout.bits}-bit pixels; save it without prediction")
    dtype = np.float32 if layout.floating else layout.dtype.newbyteorder("=")
    out = np.empty((layout.height, layout.width, layout.samples), dtype)
    for plane, y, x, stored in _segments(layout):
        raw = stored.translate(REVERSED) if layout.fill_order == 2 else stored
        samples = 1 if layout.planar else layout.samples
        rows = high if layout.tiled else min(high, layout.height - y)
        row_bytes = (wide * samples * layout.bits + 7) // 8
        data = _inflate(raw, layout, rows * row_bytes)
        if packed:
            values = _unpack(np.frombuffer(data, np.uint8).reshape(rows, row_bytes), layout.bits)
            part = values[:, : wide * samples].reshape(rows, wide, samples)
        else:
            part = _predicted(data, layout, (rows, wide, samples))
        target = out[y : y + rows, x : x + wide, plane : plane + samples]
        target[...] = part[: target.shape[0], : target.shape[1]]
    return out


REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


def _segments(layout: Layout) -> Iterator[tuple[int, int, int, bytes]]:
    """Plane, top row, left column, and bytes of every segment."""
    down, across, planes = _grid(layout)
    high, wide = layout.segment
    places = [
        (p, y * high, x * wide) for p in range(planes) for y in range(down) for x in range(across)
    ]
    for (p, y, x), offset, count in zip(places, layout.offsets, layout.counts, strict=True):
        yield p, y, x, layout.block.data[offset : offset + count]


def _inflate(raw: bytes, layout: Layout, want: int) -> bytes:
    """Decompress one segment to exactly ``want`` bytes."""
    try:
        if layout.compression in (DEFLATE, OLD_DEFLATE):
            data = zlib.decompressobj().decompress(raw, want)
        elif layout.compression == LZMA:
            data = lzma.LZMADecompressor(memlimit=1 << 28).decompress(raw, want)
        elif layout.compression == PACKBITS:
            data = unpack_bits(raw, want)
        elif layout.compression in FAX:
            data = _fax(raw, layout, want)
        elif layout.compression == LZW:
            data = lzw.decode(raw, want)
        else:
            data = raw[:want]
    except (zlib.error, lzma.LZMAError, EOFError, MemoryError, ValueError) as error:
        raise ImageError(f"the TIFF is damaged: {error}; fetch it again") from error
    if len(data) != want:
        raise ImageError(
            f"the TIFF is cut short: a segment holds {len(data)} bytes of {want}; fetch it again"
        )
    return data


def _fax(raw: bytes, layout: Layout, want: int) -> bytes:
    wide = layout.segment[1]
    if layout.bits != 1 or layout.samples != 1:
        raise ValueError(f"fax coding of {layout.bits} bits")
    options = tags.number(layout.directory, T4_OPTIONS, layout.block.order)
    return ccitt.decode(raw, wide, want // ((wide + 7) // 8), layout.compression, options)


def unpack_bits(raw: bytes, want: int) -> bytes:
    """PackBits (TIFF 6.0, section 9), up to ``want`` bytes."""
    out, at = bytearray(), 0
    while at < len(raw) and len(out) < want:
        n = raw[at]
        if n < 128:
            out += raw[at + 1 : at + 2 + n]
            at += 2 + n
        else:
            if n > 128:
                out += raw[at + 1 : at + 2] * (257 - n)
            at += 2 if n > 128 else 1
    return bytes(out[:want])


def _unpack(rows: Pixels, bits: int) -> Pixels:
    """Samples of 1, 2 or 4 bits, the first in the highest bits."""
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    values = rows[:, :, None] >> shifts & np.uint8(2**bits - 1)
    return values.reshape(len(rows), -1)


def _predicted(data: bytes, layout: Layout, shape: tuple[int, int, int]) -> Pixels:
    """Undo the predictor: 1 none, 2 horizontal differences, 3 the same over sorted float bytes."""
    rows, wide, samples = shape
    if layout.predictor == 3 and layout.floating:
        size = layout.bits // 8
        flat = np.frombuffer(data, np.uint8).reshape(rows, wide * size, samples)
        planes = np.cumsum(flat, 1, dtype=np.uint8).reshape(rows, size, wide * samples)
        big = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">f{size}")
        return _single(big.reshape(shape))
    values = np.frombuffer(data, layout.dtype).reshape(shape)
    if layout.predictor == 2 and not layout.floating:
        native = values.astype(layout.dtype.newbyteorder("="))
        return np.cumsum(native, 1, dtype=native.dtype)
    if layout.predictor != 1:
        raise ImageError(f"the TIFF predictor {layout.predictor} is not supported; save it again")
    return _single(values) if layout.floating else values


def _single(values: Pixels) -> Pixels:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
