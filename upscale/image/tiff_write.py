"""TIFF written: strips of Deflate with prediction, metadata, BigTIFF where 4 GB are not enough."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from PIL import Image as PillowImage

from upscale.image import exif, tags
from upscale.image.deflate import packed
from upscale.image.model import Image, Metadata, Pixels
from upscale.image.parallel import workers
from upscale.image.tags import Directory, Entry
from upscale.image.tiff import EXTRA_SAMPLES, ICC, IPTC, SAMPLE_FORMAT, XMP

STRIP = 1 << 20  # bytes of pixels in a strip, about
CLASSIC = 2**32 - 2**24  # bytes that a file may have before it must be a BigTIFF
ORDER: Literal["<"] = "<"


def encode(image: Image, *, level: int = 6) -> bytes:
    """A picture (8, 16 or 32 bit) to the bytes of a TIFF."""
    photometric = 1 if image.is_gray else 2
    return _write(image.pixels, image.metadata, photometric, level)


def encode_cmyk(image: Image, separations: PillowImage.Image, *, level: int = 6) -> bytes:
    """Separations (Pillow mode CMYK) with the metadata of ``image`` to the bytes of a TIFF."""
    return _write(np.asarray(separations), image.metadata, 5, level)


def _write(p: Pixels, metadata: Metadata, photometric: int, level: int) -> bytes:
    height, width, samples = p.shape
    rows = max(1, STRIP // (width * samples * p.dtype.itemsize))
    starts = range(0, height, rows)
    with ThreadPoolExecutor(workers()) as pool:  # zlib lets go of the interpreter
        strips = list(pool.map(lambda y: deflated(p[y : y + rows], level), starts))
    directory = directory_of(p.shape, p.dtype, metadata, photometric)
    directory[278] = tags.long(rows, ORDER)
    total = sum(len(s) + len(s) % 2 for s in strips)
    big = total + len(metadata.exif or b"") + len(metadata.xmp or b"") > CLASSIC
    parts = [_head(directory, metadata, [len(s) for s in strips], big)]
    for strip in strips:
        parts.append(strip)
        if len(strip) % 2:
            parts.append(b"\0")
    return b"".join(parts)


def deflated(rows: Pixels, level: int) -> bytes:
    """Predict and compress a strip or tile, (h, w, C)."""
    if rows.dtype == np.float32:
        height, width, samples = rows.shape
        big = np.ascontiguousarray(rows.astype(">f4")).view(np.uint8)
        planes = big.reshape(height, width * samples, 4).transpose(0, 2, 1)
        flat = np.ascontiguousarray(planes).reshape(height, width * 4, samples)
    else:
        flat = rows.astype(rows.dtype.newbyteorder(ORDER))
    out = flat.copy()
    out[:, 1:] -= flat[:, :-1]
    return packed(out.tobytes(), level)


def directory_of(
    shape: tuple[int, ...], dtype: np.dtype[Any], metadata: Metadata, photometric: int
) -> Directory:
    """The directory of a picture (H, W, C) but for where its segments lie, and its EXIF."""
    height, width, samples = shape
    bits = dtype.itemsize * 8
    floating = dtype == np.float32
    d: Directory = {
        256: tags.long(width, ORDER),
        257: tags.long(height, ORDER),
        258: _shorts([bits] * samples),
        259: tags.short(8, ORDER),
        262: tags.short(photometric, ORDER),
        274: tags.short(1, ORDER),
        277: tags.short(samples, ORDER),
        284: tags.short(1, ORDER),
        317: tags.short(3 if floating else 2, ORDER),
        SAMPLE_FORMAT: _shorts([3 if floating else 1] * samples),
    }
    if samples in (2, 4) and photometric != 5:
        d[EXTRA_SAMPLES] = tags.short(1 if metadata.premultiplied else 2, ORDER)
    if metadata.dpi:
        d[exif.X_RESOLUTION], d[exif.Y_RESOLUTION] = (tags.rational(v, ORDER) for v in metadata.dpi)
        d[exif.RESOLUTION_UNIT] = tags.short(2, ORDER)
    for tag, value, kind in (
        (ICC, metadata.icc, tags.UNDEFINED),
        (XMP, metadata.xmp, 1),
        (IPTC, metadata.iptc, tags.UNDEFINED),
    ):
        if value:
            d[tag] = Entry(kind, len(value), value)
    return d


def _shorts(values: list[int]) -> Entry:
    return Entry(tags.SHORT, len(values), struct.pack(f"{ORDER}{len(values)}H", *values))


def _head(directory: Directory, metadata: Metadata, counts: list[int], big: bool) -> bytes:
    """Everything before the first strip."""
    kind = tags.long8 if big else tags.longs
    start = 16 if big else 8

    def written(offsets: list[int]) -> bytes:
        places = {273: kind(offsets, ORDER), 279: kind(counts, ORDER)}
        return with_exif(directory | places, metadata, start, big=big)

    at = start + len(written([0] * len(counts)))
    offsets = []
    for count in counts:
        offsets.append(at)
        at += count + count % 2
    return header(start, big=big) + written(offsets)


def header(first: int, *, big: bool) -> bytes:
    """The header of a TIFF or BigTIFF whose directory stands at ``first``."""
    if big:
        return struct.pack(ORDER + "2sHHHQ", b"II", 43, 8, 0, first)
    return struct.pack(ORDER + "2sHI", b"II", 42, first)


def with_exif(directory: Directory, metadata: Metadata, offset: int, *, big: bool) -> bytes:
    """A directory to stand at ``offset`` (even), and what the EXIF block says beside it."""
    found: dict[int, Directory] = {}
    if metadata.exif:
        block = tags.open_block(metadata.exif)
        first, _ = tags.read_directory(block, block.first)
        found = {
            key: {tag: tags.swapped(entry, block.order, ORDER) for tag, entry in part.items()}
            for key, part in exif.directories(block, first).items()
        }
    return exif.write(found, found.get(0, {}) | directory, offset, ORDER, big=big)
