"""Rows that come from Python, as a picture of libvips that any of its savers takes.

libvips has no source of bare samples. So a source shows an uncompressed BigTIFF that is never
whole: its header is made here, and its strips are the rows as they come.
"""

from __future__ import annotations

import queue
import struct
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from upscale.image.model import Pixels
from upscale.image.vips import library
from upscale.metadata import tags
from upscale.metadata.tags import STRAIGHT, Directory, Tag

Shape = tuple[int, int, int]  # height, width, channels
ORDER = "<"
STRIP = 1 << 20  # bytes of a strip, about
MOST_ROWS = 1 << 15  # of a strip, that libvips takes
AHEAD = 2  # strips that may wait for the saver
POLL = 0.1  # seconds after which a waiting producer looks whether the saver has ended


def strip_rows(shape: Shape, dtype: np.dtype[Any]) -> int:
    """Rows of a strip: a multiple of 16, as JPEG codes them, of about ``STRIP`` bytes."""
    row = shape[1] * shape[2] * dtype.itemsize
    return min(max(16, STRIP // row // 16 * 16), MOST_ROWS)


def save_rows(
    strips: Iterable[Pixels],
    shape: Shape,
    dtype: np.dtype[Any],
    save: Callable[[Any], None],
    *,
    cmyk: bool = False,
) -> None:
    """Pull strips in this thread while libvips saves them in another; what either raises comes out.

    Args:
        strips: Rows (h, W, C) from top to bottom; each is read until the next but two is asked for.
        shape: Height, width, channels of the picture.
        dtype: Of the samples: uint8, uint16 or float32.
        save: Called with the picture of libvips; it saves it.
        cmyk: The four channels are separations.
    """
    feed = _Feed(_start(shape, dtype, cmyk), shape[0] * shape[1] * shape[2] * dtype.itemsize)
    with ThreadPoolExecutor(1) as pool:
        saving = pool.submit(lambda: save(feed.picture()))
        try:
            for strip in strips:
                if not feed.put(strip, saving):
                    break
        except BaseException:
            feed.put(None, saving)
            saving.exception()  # it ends by itself, as its picture ends too early
            raise
        feed.put(None, saving)
        saving.result()


class _Feed:
    """The bytes of the TIFF: a header, and then what is put in."""

    def __init__(self, start: bytes, length: int) -> None:
        self._start, self._total = start, len(start) + length
        self._at = 0  # where libvips reads
        self._next = len(start)  # where the bytes begin that are held
        self._held = memoryview(b"")
        self._waiting: queue.Queue[Pixels | None] = queue.Queue(AHEAD)
        self._ended = False

    def put(self, strip: Pixels | None, saving: Future[None]) -> bool:
        """Hand over a strip (``None``: there are no more); whether the saver still wants any."""
        while not saving.done():
            try:
                self._waiting.put(strip, timeout=POLL)
                return True
            except queue.Full:
                continue
        return False

    def picture(self) -> Any:
        """The picture as libvips reads it."""
        vips = library()
        source = vips.SourceCustom()
        source.on_read(self._read)
        source.on_seek(self._seek)
        load = vips.Image.tiffload_source
        self._source = source  # it must live as long as the picture
        return load(source, access="sequential", fail_on="warning", unlimited=True)

    def _read(self, size: int) -> bytes | memoryview | None:
        if self._at < len(self._start):
            found: bytes | memoryview = self._start[self._at : self._at + size]
        elif self._at != self._next:
            return None  # libvips reads forwards; if it ever did not, this would be an error there
        else:
            if not self._held and not self._ended:
                strip = self._waiting.get()
                self._ended = strip is None
                if strip is not None:
                    self._held = np.ascontiguousarray(strip).data.cast("B")
            found = self._held[:size]
            self._held = self._held[size:]
            self._next += len(found)
        self._at += len(found)
        return found or None

    def _seek(self, offset: int, whence: int) -> int:
        self._at = offset + {0: 0, 1: self._at, 2: self._total}[whence]
        return self._at


def _start(shape: Shape, dtype: np.dtype[Any], cmyk: bool) -> bytes:
    """Everything before the first strip."""
    height, width, channels = shape
    rows, row = strip_rows(shape, dtype), width * channels * dtype.itemsize
    sizes = [min(rows, height - y) * row for y in range(0, height, rows)]
    directory: Directory = {
        Tag.WIDTH: tags.long(width, ORDER),
        Tag.HEIGHT: tags.long(height, ORDER),
        Tag.BITS: tags.short([dtype.itemsize * 8] * channels, ORDER),
        Tag.COMPRESSION: tags.short(1, ORDER),
        Tag.PHOTOMETRIC: tags.short(5 if cmyk else 1 if channels < 3 else 2, ORDER),
        Tag.SAMPLES: tags.short(channels, ORDER),
        Tag.ROWS_PER_STRIP: tags.long(rows, ORDER),
        Tag.PLANAR: tags.short(1, ORDER),
        Tag.SAMPLE_FORMAT: tags.short([3 if dtype.kind == "f" else 1] * channels, ORDER),
        Tag.COUNTS: tags.long8(sizes, ORDER),
    }
    if channels in (2, 4) and not cmyk:
        directory[Tag.EXTRA_SAMPLES] = tags.short(STRAIGHT, ORDER)
    head = struct.pack(ORDER + "2sHHHQ", b"II", 43, 8, 0, 16)

    def written(first: int) -> bytes:
        offsets = [first, *(first + np.cumsum(sizes[:-1], dtype=np.int64)).tolist()]
        places = directory | {Tag.OFFSETS: tags.long8(offsets, ORDER)}
        return head + tags.write_directory(places, 16, ORDER, big=True)

    return written(len(written(0)))
