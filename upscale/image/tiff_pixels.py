"""The strips and tiles of a TIFF, read from top to bottom.

Each segment is decompressed a piece at a time and checked to hold what it must; segments that stand
side by side advance together. A picture read whole is its bands put together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage

from upscale.errors import ImageError
from upscale.image import cmyk, jpeg, tags, tiff_inflate
from upscale.image.data import Part
from upscale.image.model import Image, Metadata, Pixels
from upscale.image.tags import Block, Directory
from upscale.image.tiff_inflate import FAX, JPEG, RATIO

BAND = 1 << 23  # bytes of the rows that are decoded at a time, about
LARGEST_BAND = 1 << 28  # bytes of rows that cannot be had in smaller pieces
LARGEST_FAX = 1 << 26  # bytes of a strip of fax codes, which is read whole
JPEG_TABLES, T4_OPTIONS = 347, 292
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

    @property
    def decoded(self) -> np.dtype[np.generic]:
        """Of the samples as they are given out: uint8, uint16 or float32."""
        return np.dtype(np.float32) if self.floating else self.dtype.newbyteorder("=")


def read(layout: Layout) -> Pixels:
    """The samples, (H, W, C) uint8, uint16 or float32: full scale, 0 black; palette: indices.

    Raises:
        ImageError: Damaged, cut short, or of an unsupported compression.
    """
    check(layout)
    out = np.empty((layout.height, layout.width, layout.samples), layout.decoded)
    y = 0
    for band in bands(layout):
        out[y : y + len(band)] = band
        y += len(band)
    return out


def read_cmyk(layout: Layout, metadata: Metadata, assume: bytes | None) -> Image:
    """CMYK separations (8 bit) to an sRGB picture through their profile."""
    if layout.bits != 8 or layout.samples != 4 or layout.compression == JPEG:
        raise ImageError(
            f"this CMYK TIFF has {layout.samples} channels of {layout.bits} bits, or JPEG "
            "compression; convert it to 4 channels of 8 bits without JPEG, or to RGB"
        )
    separations = PillowImage.fromarray(read(layout), "CMYK")
    return cmyk.to_rgb(separations, metadata, assume)


def _grid(layout: Layout) -> tuple[int, int, int]:
    """Segments down, across, and per channel."""
    high, wide = layout.segment
    down, across = -(-layout.height // max(high, 1)), -(-layout.width // max(wide, 1))
    return down, across, layout.samples if layout.planar else 1


def check(layout: Layout) -> None:
    """Refuse a table of segments that cannot be, before anything is allocated.

    Raises:
        ImageError: Damaged, cut short, or stored in a way that is not supported.
    """
    _check_table(layout)
    _check_kind(layout)


def _check_table(layout: Layout) -> None:
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


def _check_kind(layout: Layout) -> None:
    if layout.compression not in RATIO:
        name = NAMES.get(layout.compression, str(layout.compression))
        raise ImageError(f"TIFF compression {name} is not read; save it with Deflate or LZW")
    if layout.compression == JPEG:
        if layout.bits != 8 or layout.photometric not in (BLACK_IS_ZERO, RGB, YCBCR):
            raise ImageError(
                "this TIFF has JPEG compression of unusual colours; save it with Deflate"
            )
    elif layout.photometric == YCBCR:
        raise ImageError("this TIFF is YCbCr without JPEG; save it as RGB")
    elif layout.bits < 8 and layout.predictor != 1:
        raise ImageError(f"the TIFF predicts {layout.bits}-bit pixels; save it without prediction")
    elif layout.compression in FAX and (layout.bits, layout.samples) != (1, 1):
        raise ImageError(f"the TIFF is damaged: fax coding of {layout.bits} bits; fetch it again")


def is_streamable(layout: Layout) -> bool:
    """Whether ``bands`` needs memory for a few rows only."""
    row = layout.width * layout.samples * layout.decoded.itemsize
    if layout.compression in FAX:
        return max(layout.counts) <= LARGEST_FAX
    return row * (layout.segment[0] if layout.compression == JPEG else 1) <= LARGEST_BAND


def bands(layout: Layout) -> Iterator[Pixels]:
    """The samples as ``read`` gives them, (h, W, C), from top to bottom.

    Raises:
        ImageError: Damaged or cut short; ``check`` finds the rest before.
    """
    down, across, planes = _grid(layout)
    high, wide = layout.segment
    for row in range(down):
        shown = min(high, layout.height - row * high)
        stored = high if layout.tiled and layout.compression != JPEG else shown
        step = _step(layout, stored)
        parts = [
            (p, x, _parts(layout, (p * down + row) * across + x, stored, step))
            for p in range(planes)
            for x in range(across)
        ]
        for top in range(0, stored, step):
            height = min(step, stored - top)
            band = np.empty((height, layout.width, layout.samples), layout.decoded)
            for plane, x, found in parts:
                part = next(found)
                target = band[:, x * wide : (x + 1) * wide, plane : plane + part.shape[2]]
                target[...] = part[:, : target.shape[1]]
            if top < shown:
                yield _full_scale(band[: shown - top], layout)


def _step(layout: Layout, stored: int) -> int:
    """Rows that are decoded at a time, of segments of ``stored`` rows."""
    if layout.compression == JPEG:
        return stored
    row = layout.width * layout.samples * max(layout.bits // 8, layout.decoded.itemsize)
    return max(1, min(stored, BAND // row))


def _parts(layout: Layout, index: int, rows: int, step: int) -> Iterator[Pixels]:
    """The pixels of segment ``index``, (step, wide, samples) at a time."""
    offset, count = layout.offsets[index], layout.counts[index]
    samples = 1 if layout.planar else layout.samples
    if layout.compression == JPEG:
        x = index % _grid(layout)[1] * layout.segment[1]
        shape = rows, min(layout.segment[1], layout.width - x), samples
        yield _jpeg_part(layout, layout.block.data[offset : offset + count], shape)
        return
    wide = layout.segment[1]
    row_bytes = (wide * samples * layout.bits + 7) // 8
    found = tiff_inflate.pieces(
        Part(layout.block.data, offset, count, layout.fill_order == 2),
        layout.compression,
        rows * row_bytes,
        step * row_bytes,
        width=wide,
        options=tags.number(layout.directory, T4_OPTIONS, layout.block.order),
    )
    for data in found:
        height = len(data) // row_bytes
        if layout.bits < 8:
            values = _unpack(np.frombuffer(data, np.uint8).reshape(height, -1), layout.bits)
            yield values[:, : wide * samples].reshape(height, wide, samples)
        else:
            yield _predicted(data, layout, (height, wide, samples))


def _jpeg_part(layout: Layout, raw: bytes, shape: tuple[int, int, int]) -> Pixels:
    """A segment that is a JPEG stream, whose tables may lie apart, cut to ``shape``."""
    if raw[:2] != b"\xff\xd8":
        raise ImageError("the TIFF is damaged: a JPEG segment has no start; fetch it again")
    shared = layout.directory.get(JPEG_TABLES)
    tables = shared.value[2:-2] if shared else b""
    part = jpeg.decode_stream(raw[:2] + tables + raw[2:], int(layout.photometric == YCBCR))
    part = part[: shape[0], : shape[1]]
    if part.shape != shape:
        raise ImageError("the TIFF is damaged: a JPEG segment is too small; fetch it again")
    return part


def _full_scale(pixels: Pixels, layout: Layout) -> Pixels:
    """Samples of few bits stretched to 8, and 0 made black."""
    if layout.bits < 8 and layout.photometric != PALETTE:
        pixels *= np.uint8(255 // (2**layout.bits - 1))
    if layout.photometric == WHITE_IS_ZERO:
        top = 1 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max
        pixels[:, :, 0] = top - pixels[:, :, 0]
    return pixels


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
