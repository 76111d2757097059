"""Huge pictures: read by bands, enlarged by bands, written by bands; memory does not grow.

A TIFF of more than ``HUGE_PIXELS`` becomes a TIFF (BigTIFF, tiled) or a PNG without ever being
whole in memory. A band is cut with a margin of real rows on both sides that covers the network's
reach, so it is what the same rows of the whole picture would be: exactly for networks whose halo is
their reach, else as with tiles.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from upscale import __version__
from upscale.batch import storage
from upscale.batch.journal import Entry, Journal
from upscale.batch.report import Record
from upscale.batch.settings import Settings
from upscale.batch.stages import Progress, check_held, done_record, final_size
from upscale.batch.storage import Stat, is_url
from upscale.batch.task import STDOUT, Task
from upscale.errors import ImageError, OutputError
from upscale.image import Image
from upscale.upscaler import Result, Upscaler

Rows = NDArray[Any]  # (h, W, C) uint8 or uint16

HUGE_PIXELS = 1 << 26
SMALL_FILE = 1 << 22  # bytes; a smaller file is not looked into
BAND_BYTES = 1 << 26  # of a band of the output in float32
TILE = 256  # side of the tiles of an output TIFF
MARGIN = 16  # at least, for the bicubic kernel and the bleeding of alpha
HASH_BLOCK = 1 << 22


@dataclass(frozen=True)
class Huge:
    """A picture that is done by bands.

    Attributes:
        task: The picture.
        shape: Height, width, channels of the input.
        dtype: uint8 or uint16.
        factor: Whole enlargement.
        icc: ICC profile, or ``None``.
        stat: Size and time of the input.
    """

    task: Task
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    factor: int
    icc: bytes | None
    stat: Stat


def inspect(task: Task, settings: Settings, upscaler: Upscaler) -> Huge | None:
    """Return how to do a picture by bands; ``None`` for one that is done whole.

    Raises:
        ImageError: It is huge and its output cannot be made by bands.
        OSError: It cannot be read.
    """
    location = task.source.location
    if task.source.data is not None or is_url(location) or task.output == STDOUT:
        return None
    stat = storage.stat(location)
    if stat.size < SMALL_FILE or storage.read_head(location, 4)[:2] not in (b"II", b"MM"):
        return None
    try:
        with tifffile.TiffFile(location) as file:
            page: Any = file.pages[0]
            if len(file.pages) > 1 or not _is_plain(page):
                return None
            height, width = int(page.imagelength), int(page.imagewidth)
            samples = int(page.samplesperpixel)
            icc = page.tags.valueof(34675)
            dtype = np.dtype(page.dtype).newbyteorder("=")
    except (tifffile.TiffFileError, struct.error, KeyError, IndexError):
        return None  # damaged: the decoder says how
    if height * width < HUGE_PIXELS:
        return None
    size = final_size(settings, upscaler, width, height)
    factor = size[0] // width
    if (width * factor, height * factor) != size or factor < 1:
        raise ImageError(
            f"{width} x {height} is done by bands, which needs a whole scale: give -s 2 or the like"
        )
    if task.format not in {"tiff", "png"}:
        raise ImageError(f"{width} x {height} is done by bands: give -f tif or -f png")
    if settings.color_fix:
        raise ImageError(f"{width} x {height} is done by bands: leave out --color-fix")
    check_held(settings, task.format, size)
    return Huge(task, (height, width, samples), dtype, factor, icc, stat)


def _is_plain(page: Any) -> bool:
    """Whether a page is gray, RGB or RGBA of 8 or 16 bits, upright, its samples together."""
    kinds = {(1, 1): (), (2, 3): (), (2, 4): (2,)}
    extra = kinds.get((int(page.photometric), int(page.samplesperpixel)))
    return (
        extra is not None
        and tuple(int(e) for e in page.extrasamples) == extra
        and page.dtype in ("uint8", "uint16")
        and int(page.planarconfig) == 1
        and page.tags.valueof(274, 1) == 1
    )


def enlarge_file(
    huge: Huge,
    upscaler: Upscaler,
    settings: Settings,
    digest: str,
    journal: Journal | None,
    *,
    progress: Progress | None = None,
) -> Record:
    """Enlarge a huge picture from file to file; the output appears whole or not at all.

    Raises:
        ImageError: The input is damaged.
        OutputError: The output cannot be written.
    """
    started, task = time.perf_counter(), huge.task
    results: list[Result] = []
    try:
        storage.make_folder(task.output)
        with storage.temporary(task.output) as name:
            _write(name, huge, _bands(huge, upscaler, results, progress))
            written = storage.stat(name)
            if journal is not None:
                journal.add(_entry(huge, digest, name, written))
            storage.publish(name, task.output, replace=task.replace)
    except OSError as error:
        raise OutputError(f"cannot be written: {storage.reason(error)}") from error
    height, width, _ = huge.shape
    whole = replace(
        results[0],
        width=width,
        height=height,
        out_width=width * huge.factor,
        out_height=height * huge.factor,
        retries=sum(result.retries for result in results),
    )
    return done_record(task, whole, started)


def _entry(huge: Huge, digest: str, name: str, written: Stat) -> Entry:
    location = huge.task.source.location
    if storage.stat(location) != huge.stat:
        raise ImageError("changed while it was read; run again when it is at rest")
    return Entry(
        output=huge.task.relative,
        input=storage.absolute(location),
        input_size=huge.stat.size,
        input_stamp=huge.stat.stamp,
        input_sha256=_sha256(location),
        settings=digest,
        output_size=written.size,
        output_stamp=written.stamp,
        output_sha256=_sha256(name),
    )


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _bands(
    huge: Huge, upscaler: Upscaler, results: list[Result], progress: Progress | None
) -> Iterator[Rows]:
    """Yield the output from top to bottom, in bands of whole rows."""
    network = upscaler.native(huge.factor).prepared.network
    height, width, channels = huge.shape
    multiple = network.multiple_of
    margin = -(-max(network.halo, MARGIN) // multiple) * multiple
    row_bytes = 4 * max(channels, network.channels) * width * huge.factor**2
    step = max(multiple, margin, BAND_BYTES // row_bytes // multiple * multiple)
    count = -(-height // step)
    for index, (top, rows, above) in enumerate(_overlapping(_read(huge), height, step, margin)):
        image, result = upscaler.enlarge(
            Image(rows), size=(len(rows) * huge.factor, width * huge.factor)
        )
        results.append(result)
        begin = above * huge.factor
        yield image.pixels[begin : begin + min(step, height - top) * huge.factor]
        if progress is not None:
            progress(index + 1, count)


def _overlapping(
    source: Iterator[Rows], height: int, step: int, margin: int
) -> Iterator[tuple[int, Rows, int]]:
    """Yield (first row of a band, the band with its margins, rows of margin above it)."""
    held: list[Rows] = []
    first = end = 0  # rows of the picture that are held
    for top in range(0, height, step):
        need = min(height, top + step + margin)
        while end < need:
            rows = next(source)
            held.append(rows)
            end += len(rows)
        begin = max(0, top - margin)
        whole = np.concatenate(held)[begin - first :]
        held, first = [whole], begin
        yield top, whole[: need - begin], top - begin


def _read(huge: Huge) -> Iterator[Rows]:
    """Yield the rows of the input from top to bottom, by strips or rows of tiles."""
    height, width, channels = huge.shape
    with tifffile.TiffFile(huge.task.source.location) as file:
        page: Any = file.pages[0]
        tall = int(page.tilelength) if page.is_tiled else int(page.rowsperstrip)
        if not page.is_tiled and (tall >= height or page.is_memmappable):
            yield from _mapped(file, page, huge)
            return
        band = np.empty((0, width, channels), huge.dtype)
        row = -1
        for data, index, _ in page.segments(maxworkers=1):
            y, x = int(index[-3]), int(index[-2])
            if y != row:
                if row >= 0:
                    yield band
                row, band = y, np.zeros((min(tall, height - y), width, channels), huge.dtype)
            if data is not None:
                piece = data.reshape(data.shape[-3:])[: len(band), : width - x]
                band[: len(piece), x : x + piece.shape[1]] = piece
        yield band


def _mapped(file: Any, page: Any, huge: Huge) -> Iterator[Rows]:
    """Yield the rows of an uncompressed picture, mapped into memory a piece at a time."""
    if not page.is_memmappable:
        raise ImageError("is one compressed strip: save it with smaller strips or tiles")
    height, width, channels = huge.shape
    row = width * channels * huge.dtype.itemsize
    stored = huge.dtype.newbyteorder(file.byteorder)
    with open(huge.task.source.location, "rb") as raw:
        raw.seek(int(page.dataoffsets[0]))
        for top in range(0, height, TILE):
            count = min(TILE, height - top)
            data = raw.read(count * row)
            if len(data) != count * row:
                raise ImageError(f"is truncated at row {top} of {height}; get the file again")
            rows = np.frombuffer(data, stored).astype(huge.dtype)
            yield rows.reshape(count, width, channels)


def _write(name: str, huge: Huge, bands: Iterator[Rows]) -> None:
    height, width, channels = huge.shape
    shape = (height * huge.factor, width * huge.factor, channels)
    if huge.task.format == "png":
        _write_png(name, shape, huge, bands)
    else:
        _write_tiff(name, shape, huge, bands)
    with open(name, "rb+") as file:
        os.fsync(file.fileno())


def _write_tiff(name: str, shape: tuple[int, int, int], huge: Huge, bands: Iterator[Rows]) -> None:
    gray = shape[2] == 1
    with tifffile.TiffWriter(name, bigtiff=True) as writer:
        writer.write(
            _tiles(bands, shape),
            shape=shape[:2] if gray else shape,
            dtype=huge.dtype,
            tile=(TILE, TILE),
            photometric="minisblack" if gray else "rgb",
            planarconfig=None if gray else "contig",
            compression="zlib",
            compressionargs={"level": 1},
            predictor=True,
            iccprofile=huge.icc,
            software=f"upscale {__version__}",
            metadata=None,
            extrasamples=["unassalpha"] if shape[2] == 4 else None,
        )
    with tifffile.TiffFile(name) as file:
        if file.pages[0].shape != (shape[:2] if gray else shape):
            raise OutputError("what was written reads back differently")


def _tiles(bands: Iterator[Rows], shape: tuple[int, int, int]) -> Iterator[Rows]:
    """Yield tiles (TILE, TILE, C) in reading order, filled up with zeros at the right and below."""
    _, width, channels = shape
    for rows in _of_height(bands, TILE):
        for x in range(0, width, TILE):
            piece = rows[:, x : x + TILE]
            tile = np.zeros((TILE, TILE, channels), piece.dtype)
            tile[: len(piece), : piece.shape[1]] = piece
            yield tile[:, :, 0] if channels == 1 else tile


def _of_height(bands: Iterator[Rows], tall: int) -> Iterator[Rows]:
    """Cut bands of any height anew, ``tall`` rows each but the last."""
    held: Rows | None = None
    for band in bands:
        held = band if held is None else np.concatenate([held, band])
        at = 0
        while len(held) - at >= tall:
            yield held[at : at + tall]
            at += tall
        held = held[at:].copy()
    if held is not None and len(held):
        yield held


def _write_png(name: str, shape: tuple[int, int, int], huge: Huge, bands: Iterator[Rows]) -> None:
    """Write a PNG row by row: every row is stored as its difference to the one above."""
    height, width, channels = shape
    kind = {1: 0, 3: 2, 4: 6}[channels]
    depth = huge.dtype.itemsize * 8
    packer = zlib.compressobj(3)
    above = np.zeros(width * channels * huge.dtype.itemsize, np.uint8)
    with open(name, "xb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
        if huge.icc:
            _chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(huge.icc))
        _chunk(file, b"tEXt", b"Software\0upscale " + __version__.encode())
        for band in bands:
            big = np.ascontiguousarray(band.astype(band.dtype.newbyteorder(">")))
            rows = big.view(np.uint8).reshape(len(band), -1)
            filtered = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
            filtered[:, 0] = 2  # up
            filtered[0, 1:] = rows[0] - above
            filtered[1:, 1:] = rows[1:] - rows[:-1]
            above = rows[-1].copy()
            data = packer.compress(filtered.tobytes())
            if data:
                _chunk(file, b"IDAT", data)
        _chunk(file, b"IDAT", packer.flush())
        _chunk(file, b"IEND", b"")


def _chunk(file: Any, name: bytes, body: bytes) -> None:
    file.write(struct.pack(">I", len(body)) + name)
    file.write(body)
    file.write(struct.pack(">I", zlib.crc32(body, zlib.crc32(name))))
