"""JPEG by rows, by libvips where it is installed: its libjpeg gives rows out as they are decoded.

libvips is given what ``jpeg`` gives to Pillow, the segments that make pixels and an end that is no
code, so that a scan which ends too early is an error here too.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import numpy as np

from upscale.errors import ImageError
from upscale.image import jpeg, jpeg_app
from upscale.image.codec import settled
from upscale.image.data import Data, FileData
from upscale.image.jpeg import NOT_A_CODE, Segments
from upscale.image.model import Pixels, check_size
from upscale.image.rows.reader import RowReader

BAND = 64  # rows that are decoded at a time
CHUNK = 1 << 16  # bytes that are read at a time
DAMAGED = "the JPEG is damaged or cut short; fetch it again"


def open_jpeg(
    data: Data, path: str | os.PathLike[str], assume_icc: bytes | None
) -> RowReader | None:
    """The reader of a JPEG; ``None``: no libvips, CMYK, progressive, of several scans, or turned.

    Raises:
        ImageError: Damaged or cut short.
    """
    if _vips() is None:
        return None
    s = jpeg.parse(data)
    check_size(s.width, s.height, s.width * s.height)
    channels = s.components
    if channels not in (1, 3) or not s.has_one_scan:
        return None
    metadata = settled(jpeg_app.read(s.app), channels == 1, assume_icc)
    if metadata.orientation != 1:
        return None
    dtype = np.dtype(np.uint8)
    return RowReader("jpeg", s.height, s.width, channels, dtype, metadata, partial(_rows, s, path))


@cache
def _vips() -> Any:
    """The module, told to keep nothing, or ``None``; its logger "pyvips" is silent by itself."""
    try:
        import pyvips
    except (ImportError, OSError):  # OSError: the module without the library
        return None
    pyvips.cache_set_max(0)
    return pyvips


def _rows(s: Segments, path: str | os.PathLike[str]) -> Iterator[Pixels]:
    vips = _vips()
    with FileData(path) as data:
        feed = _Feed(_stream(s, data))
        source = vips.SourceCustom()  # must outlive the picture
        source.on_read(feed.read)
        try:
            yield from _decoded(vips, source, s)
        except vips.Error as error:
            raise (feed.error or ImageError(DAMAGED)) from error
        if feed.error:
            raise feed.error


def _decoded(vips: Any, source: Any, s: Segments) -> Iterator[Pixels]:
    picture = vips.Image.jpegload_source(source, access="sequential", fail_on="warning")
    shape = (picture.height, picture.width, picture.bands)
    if shape != (s.height, s.width, s.components) or picture.format != "uchar":
        raise ImageError(DAMAGED)
    region = vips.Region.new(picture)
    for top in range(0, s.height, BAND):
        height = min(BAND, s.height - top)
        found = region.fetch(0, top, s.width, height)
        yield np.frombuffer(bytes(found), np.uint8).reshape(height, s.width, s.components)


def _stream(s: Segments, data: Data) -> Iterator[bytes]:
    """The bytes that make pixels."""
    yield jpeg.start_of(s)
    for place in s.pixels:
        for at in range(place.start, place.stop, CHUNK):
            yield data[at : min(at + CHUNK, place.stop)]
    yield NOT_A_CODE


class _Feed:
    """Pieces of bytes as libvips asks for them, in any thread; an error waits in ``error``."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.error: BaseException | None = None
        self._pieces, self._held, self._lock = pieces, b"", threading.Lock()

    def read(self, size: int) -> bytes | None:
        """Up to ``size`` bytes; ``None`` at the end, and where reading fails."""
        with self._lock:
            try:
                self._held = self._held or next(self._pieces, b"")
            except BaseException as error:  # noqa: BLE001 - nothing may be raised into C
                self.error = error
            part, self._held = self._held[:size], self._held[size:]
            return part or None
