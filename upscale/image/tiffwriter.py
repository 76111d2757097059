"""TIFF and BigTIFF out: strips of Deflate, and behind them a directory with the metadata."""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

import numpy as np

from upscale.image import exif, tags
from upscale.image.metadata import Metadata, ratio
from upscale.image.model import Pixels, Shape, strip_rows
from upscale.image.tags import PREMULTIPLIED, STRAIGHT, Directory, Tag, TagValue
from upscale.image.tiff import ICC, IPTC, PHOTOSHOP, RESOLUTION, STORAGE, XMP

ORDER = "<"
CLASSIC = 2**32 - 2**24  # bytes that a TIFF may have before it must be a BigTIFF
LEVELS = {1: 4, 2: 1, 4: 1}  # effort of zlib by bytes of a sample: more would not pay
DEFLATE, HORIZONTAL = 8, 2
POINT = struct.pack("<4H", 1025, 0, 1, 2)  # of GeoTIFF: a place is the middle of a pixel
STATISTICS = re.compile(rb'\s*<Item name="STATISTICS_[^>]*>[^<]*</Item>')
OME_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b[^>]*>")
OME_FILES = re.compile(r'\sUUID="[^"]*"|<(?:\w+:)?UUID\b[^>]*>[^<]*</(?:\w+:)?UUID>')


def needs_big(size: int, m: Metadata) -> bool:
    """Whether pixels of ``size`` bytes, packed at worst, may not fit in a classic TIFF."""
    blocks = sum(len(block or b"") for block in (m.exif, m.xmp, m.iptc, m.icc, m.photoshop))
    return size * 1.001 + 2 * blocks > CLASSIC


class TiffPages:
    """Pages that go into a file one behind the other; each is readable once its directory is."""

    def __init__(self, file: BinaryIO, *, big: bool = False) -> None:
        """Begin a file; ``file`` is empty and seekable."""
        self._file, self._big = file, big
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) if big else b"II*\0" + bytes(4))
        self._link = 8 if big else 4  # where the place of the next directory goes

    def add(
        self, strips: Iterable[Pixels], shape: Shape, m: Metadata, *, alpha: bool, cmyk: bool
    ) -> None:
        """Write a page.

        Args:
            strips: (h, W, C) of ``strip_rows`` rows each, but the last; one is packed while the
                next is made.
            shape: Height, width, channels.
            m: What its directory is to say.
            alpha: The last channel is alpha.
            cmyk: The four channels are separations.
        """
        offsets: list[int] = []
        counts: list[int] = []
        dtype = np.dtype(np.uint8)

        def write(packed: Future[bytes]) -> None:
            data = packed.result()
            offsets.append(self._file.seek(0, os.SEEK_END))
            counts.append(len(data))
            self._file.write(data)

        with ThreadPoolExecutor(1) as thread:
            waiting: list[Future[bytes]] = []
            for strip in strips:
                dtype = strip.dtype
                waiting.append(thread.submit(_packed, strip))
                if len(waiting) > 1:
                    write(waiting.pop(0))
            for packed in waiting:
                write(packed)
        directory = _storage(shape, dtype, alpha and m.premultiplied, alpha, cmyk)
        places = tags.long8 if self._big else tags.long
        directory |= {Tag.OFFSETS: places(offsets, ORDER), Tag.COUNTS: places(counts, ORDER)}
        self._close(directory, m, (shape[1], shape[0]))

    def _close(self, storage: Directory, m: Metadata, size: tuple[int, int]) -> None:
        """Write the directory of a page, and link it to what stands before."""
        leave = STORAGE | {*RESOLUTION}
        parts = exif.in_order(m.exif, ORDER, leave) if m.exif else {}
        first = parts.get(0, {}) | _described(m, size) | storage
        end = self._file.seek(0, os.SEEK_END)
        at = end + end % 2
        self._file.write(bytes(end % 2))
        written = exif.write(parts, first, at, ORDER, big=self._big)
        self._file.write(written)
        self._file.seek(self._link)
        self._file.write(struct.pack("<Q" if self._big else "<I", at))
        (count,) = struct.unpack_from("<Q" if self._big else "<H", written)
        self._link = at + (8 + 20 * count if self._big else 2 + 12 * count)


def _packed(strip: Pixels) -> bytes:
    """Rows (h, W, C) as differences from pixel to pixel (floating point: as they are), deflated."""
    if strip.dtype.kind != "f":  # not every program knows how floats are predicted
        left = strip[:, :-1]
        strip = strip.copy()
        strip[:, 1:] -= left
    ordered = np.ascontiguousarray(strip, strip.dtype.newbyteorder("<"))
    return zlib.compress(ordered.data.cast("B"), LEVELS[strip.dtype.itemsize])


def _storage(
    shape: Shape, dtype: np.dtype[Any], premultiplied: bool, alpha: bool, cmyk: bool
) -> Directory:
    """The tags that say how pixels are stored, but where."""
    height, width, channels = shape
    directory: Directory = {
        Tag.WIDTH: (tags.short if width < 65536 else tags.long)(width, ORDER),
        Tag.HEIGHT: (tags.short if height < 65536 else tags.long)(height, ORDER),
        Tag.BITS: tags.short([dtype.itemsize * 8] * channels, ORDER),
        Tag.COMPRESSION: tags.short(DEFLATE, ORDER),
        Tag.PHOTOMETRIC: tags.short(5 if cmyk else 1 if channels < 3 else 2, ORDER),
        exif.ORIENTATION: tags.short(1, ORDER),
        Tag.SAMPLES: tags.short(channels, ORDER),
        Tag.ROWS_PER_STRIP: tags.long(strip_rows(shape, dtype), ORDER),
        Tag.PLANAR: tags.short(1, ORDER),
        Tag.SAMPLE_FORMAT: tags.short([3 if dtype.kind == "f" else 1] * channels, ORDER),
    }
    if dtype.kind != "f":
        directory[Tag.PREDICTOR] = tags.short(HORIZONTAL, ORDER)
    if alpha:
        directory[Tag.EXTRA_SAMPLES] = tags.short(
            PREMULTIPLIED if premultiplied else STRAIGHT, ORDER
        )
    return directory


def _described(m: Metadata, size: tuple[int, int]) -> Directory:
    """The tags of the metadata, as they are for a picture of ``size``."""
    scale = ratio(m, size)
    directory: Directory = {}
    native = {tag: value for _, tag, value in m.native} if m.format == "tiff" else {}
    point = 34735 in native and POINT in native[34735].value
    for tag, value in native.items():
        directory[tag] = _scaled(tag, value, scale, size, point)
    if 34264 in native:
        directory[34264] = _matrix(native[34264], scale, point)
    if m.dpi:
        x, y = (tags.rational(v, ORDER) for v in m.dpi)
        unit = tags.short(2, ORDER)
        directory |= dict(zip(RESOLUTION, (x, y, unit), strict=True))
    for tag, data, type_ in (
        (ICC, m.icc, tags.UNDEFINED),
        (XMP, m.xmp, tags.BYTE),
        (IPTC, m.iptc, tags.UNDEFINED),
        (PHOTOSHOP, m.photoshop, tags.BYTE),
    ):
        if data:
            directory[tag] = TagValue(type_, len(data), data)
    return directory


def _scaled(
    tag: int, entry: TagValue, scale: tuple[float, float], size: tuple[int, int], point: bool
) -> TagValue:
    """A tag that is kept, as it is for the new size."""
    values = [*tags.numbers(entry, ORDER)] if entry.type != tags.ASCII else []
    if tag in RESOLUTION[:2] and entry.type == tags.RATIONAL:
        return tags.rational(values[0] * scale[tag - RESOLUTION[0]], ORDER)
    if tag == 33550 and len(values) == 3:  # the size of a pixel
        return tags.double([values[0] / scale[0], values[1] / scale[1], values[2]], ORDER)
    if tag == 33922:  # pixels and where they lie, six numbers each
        middle = 0.5 if point else 0.0
        for i in range(len(values) // 6 * 6):
            if i % 6 < 2:
                values[i] = (values[i] + middle) * scale[i % 6] - middle
        return tags.double(values, ORDER)
    if tag == 42112:
        kept = STATISTICS.sub(b"", entry.value)
        return TagValue(tags.ASCII, len(kept), kept)
    if tag == exif.DESCRIPTION and b"<OME" in entry.value.replace(b"<ome:OME", b"<OME"):
        text = _ome(entry.value.rstrip(b"\0").decode("utf-8", "replace"), scale, size)
        return tags.ascii_entry(text)
    return entry


def _matrix(entry: TagValue, scale: tuple[float, float], point: bool) -> TagValue:
    """GeoTIFF's matrix (4 x 4) from pixels to the world, for pixels of another size."""
    values = [*tags.numbers(entry, ORDER)]
    if len(values) != 16:
        return entry
    for row in range(0, 16, 4):
        for i in (0, 1):
            if point:  # the middle of the first pixel moves
                values[row + 3] += values[row + i] * (0.5 / scale[i] - 0.5)
            values[row + i] /= scale[i]
    return tags.double(values, ORDER)


def _ome(text: str, scale: tuple[float, float], size: tuple[int, int]) -> str:
    """OME-XML with the sizes of the picture and of its pixels."""

    def pixels(match: re.Match[str]) -> str:
        tag = match[0]
        for axis, length, factor in zip("XY", size, scale, strict=True):
            tag = re.sub(rf'(\sSize{axis}=")[^"]*', rf"\g<1>{length}", tag)
            if physical := re.search(rf'\sPhysicalSize{axis}="([-+.\deE]+)"', tag):
                smaller = f"{float(physical[1]) / factor:.12g}"
                tag = tag[: physical.start(1)] + smaller + tag[physical.end(1) :]
        return re.sub(r'(\sBigEndian=")[^"]*', r"\g<1>false", tag)

    return OME_FILES.sub("", OME_PIXELS.sub(pixels, text))
