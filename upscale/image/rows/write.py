"""Pictures written by rows: TIFF and PNG of any size in the memory of a few rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np

from upscale.errors import ImageError
from upscale.image import png_meta, png_write, tags, tiff_write
from upscale.image.fit import check_output, fit_metadata, straight
from upscale.image.model import Image, Metadata, Pixels
from upscale.image.parallel import in_order
from upscale.image.rows.cut import of_height

CAN_WRITE_ROWS = frozenset({"tiff", "png"})
TILE = 256  # side of the tiles of a TIFF
LEVEL = 4  # effort of zlib; 6 takes two to three times as long for 2 to 4 % fewer bytes
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
Shape = tuple[int, int, int]


def write_rows(
    file: BinaryIO,
    format: str,  # noqa: A002 - as in encode
    shape: Shape,
    dtype: np.dtype[Any],
    metadata: Metadata,
    rows: Iterable[Pixels],
) -> None:
    """Write a picture that is never whole in memory. The same rows give the same bytes.

    Args:
        file: Empty, opened for writing in binary, seekable.
        format: "tiff" (in tiles; BigTIFF where 4 GB may not be enough) or "png".
        shape: Height, width, channels (1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha).
        dtype: uint8, uint16, or for TIFF float32.
        metadata: Fitted to the format as ``encode`` does. CMYK is not separated again.
        rows: Strips (h, W, C) from top to bottom, in any heights.

    Raises:
        ImageError: The format cannot hold the picture.
        ValueError: ``rows`` are not of ``shape`` and ``dtype``, in their sum or each.
        OSError: The file cannot be written.
    """
    height, width, channels = shape
    dtype = np.dtype(dtype)
    kind = check_output(format, width, height)
    if kind.name not in CAN_WRITE_ROWS:
        raise ImageError(f"{kind.name.upper()} is not written by rows; choose -f tiff or -f png")
    if dtype.itemsize * 8 not in kind.depths or channels not in png_write.COLOURS:
        raise ImageError(
            f"{kind.name.upper()} holds no {channels} channels of {dtype}; choose -f tiff"
        )
    if metadata.premultiplied and kind.name == "png":
        rows = _straight(rows, metadata)
        metadata = replace(metadata, premultiplied=False)
    fitted = fit_metadata(metadata, (width, height), kind)
    write = _write_tiff if kind.name == "tiff" else _write_png
    write(file, shape, dtype, fitted, rows)


def _straight(rows: Iterable[Pixels], metadata: Metadata) -> Iterator[Pixels]:
    for strip in rows:
        yield straight(Image(strip, metadata)).pixels if strip.size else strip


def _write_tiff(
    file: BinaryIO, shape: Shape, dtype: np.dtype[Any], metadata: Metadata, rows: Iterable[Pixels]
) -> None:
    """The header, the tiles as they come, the directory behind them, and where it stands."""
    offsets, counts = list[int](), list[int]()
    big = _may_exceed(tiff_write.CLASSIC, shape, dtype, metadata)
    at = file.write(tiff_write.header(0, big=big))
    tiles = _tiles(of_height(rows, shape, dtype, TILE))
    for packed in in_order(lambda tile: tiff_write.deflated(tile, LEVEL), tiles):
        offsets.append(at)
        counts.append(len(packed))
        at += file.write(packed + b"\0" * (len(packed) % 2))
    photometric = 1 if shape[2] <= 2 else 2
    directory = tiff_write.directory_of(shape, dtype, metadata, photometric)
    directory |= {
        TILE_WIDTH: tags.short(TILE, tiff_write.ORDER),
        TILE_HEIGHT: tags.short(TILE, tiff_write.ORDER),
        TILE_OFFSETS: (tags.long8 if big else tags.longs)(offsets, tiff_write.ORDER),
        TILE_COUNTS: tags.longs(counts, tiff_write.ORDER),
    }
    file.write(tiff_write.with_exif(directory, metadata, at, big=big))
    file.seek(0)
    file.write(tiff_write.header(at, big=big))


def _may_exceed(limit: int, shape: Shape, dtype: np.dtype[Any], metadata: Metadata) -> bool:
    """Whether a TIFF may become larger: its tiles are not compressed yet, and noise grows a bit."""
    height, width, channels = shape
    tiles = -(-height // TILE) * -(-width // TILE)
    pixels = int(tiles * (TILE * TILE * channels * dtype.itemsize * 1.001 + 64))
    held = (metadata.exif, metadata.xmp, metadata.iptc, metadata.icc)
    return pixels + 2 * sum(len(block or b"") for block in held) > limit


def _tiles(strips: Iterable[Pixels]) -> Iterator[Pixels]:
    """Tiles in reading order, filled up so that it costs few bytes: right the last, below zeros."""
    for strip in strips:
        for x in range(0, strip.shape[1], TILE):
            part = strip[:, x : x + TILE]
            down, right = TILE - part.shape[0], TILE - part.shape[1]
            if right:
                part = np.pad(part, ((0, 0), (0, right), (0, 0)), "edge")
            yield np.pad(part, ((0, down), (0, 0), (0, 0))) if down else part


def _write_png(
    file: BinaryIO, shape: Shape, dtype: np.dtype[Any], metadata: Metadata, rows: Iterable[Pixels]
) -> None:
    file.write(png_write.SIGNATURE + png_write.header_of(shape, dtype))
    for kind, body in png_meta.write(metadata):
        file.write(png_write.chunk(kind, body))
    strips = of_height(rows, shape, dtype, png_write.rows_of(shape, dtype))
    for chunk in png_write.idat(strips, LEVEL):
        file.write(chunk)
    file.write(png_write.chunk(b"IEND", b""))
