"""libvips, called in one way: loaders by name, no threads beside ours, rows in and out.

What libvips warns of is an error: a file that lost pixels is never filled up. What its libraries
would warn of though every pixel is there never reaches them: those who look at the structure of a
file leave it out or put it right.
"""

from __future__ import annotations

import logging
import os
import queue
import struct
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, BinaryIO

import numpy as np

from upscale.errors import ImageError
from upscale.image import tags
from upscale.image.model import Pixels, Shape, Structure, strip_rows
from upscale.image.source import Data, Joined
from upscale.image.tags import Tag

LOADERS = {  # libvips does not guess; its other loaders (SVG, PDF, CSV ...) are never called
    "png": "pngload_source",
    "jpeg": "jpegload_source",
    "tiff": "tiffload_source",
    "avif": "heifload_source",
}
DTYPES = {"uchar": "u1", "ushort": "u2", "float": "f4"}
BAND, MOST_BAND = 1 << 20, 64  # bytes and rows that are decoded at a time: damage costs no more
AHEAD = 2  # strips that may wait for the saver
POLL = 0.1  # seconds after which a waiting producer looks whether the saver has ended
START = 64  # bytes in which libvips has written what metadata stand behind
_saved_in: list[int] = []  # the process in which libvips has saved


@cache
def library() -> Any:
    """The module ``pyvips``, set up and silent: what is wrong with a file is said by an error.

    Rows are fetched in the caller's thread, and a saver needs one worker: more would fight the
    network for the cores. Nothing is cached, so that a file which changes is read again.
    """
    os.environ.setdefault("VIPS_WARNING", "1")  # which turns them off, also at the very end
    logging.getLogger("pyvips").setLevel(logging.CRITICAL)
    import pyvips

    pyvips.cache_set_max(0)
    pyvips.vips_lib.vips_concurrency_set(1)
    pyvips.vips_lib.vips_block_untrusted_set(1)
    return pyvips


@contextmanager
def opened(name: str, data: Data, structure: Structure) -> Iterator[Any]:
    """A picture of which the header is read.

    Args:
        name: A key of ``LOADERS``.
        data: The bytes of the file.
        structure: What of them the loader is to see, and what it may do.

    Raises:
        ImageError: Damaged, cut short, or of a kind that libvips does not read; inside the context
            too.
        OSError: The file cannot be read.
    """
    vips = library()
    file = Joined(data, structure.pieces)
    source = vips.SourceCustom()  # must outlive the picture
    source.on_read(file.read)
    source.on_seek(file.seek)
    options = {"unlimited": True} if structure.unlimited else {}
    try:
        loader = getattr(vips.Image, LOADERS[name])
        yield loader(source, access="sequential", fail_on=structure.fail_on, **options)
    except vips.Error as error:
        raise (
            file.error
            or ImageError(f"the {name.upper()} is damaged or cut short; fetch or save it again")
        ) from error


def dtype_of(picture: Any) -> np.dtype[Any]:
    """Of the samples; ``ImageError`` for those that are none of a picture here."""
    if picture.format not in DTYPES:
        raise ImageError(
            f"samples of kind {picture.format} are no picture here; convert it to 8 or 16 bits"
        )
    return np.dtype(DTYPES[picture.format])


def rows(picture: Any, height: int) -> Iterator[Pixels]:
    """The first ``height`` rows of an opened picture, (h, W, bands), from top to bottom."""
    dtype, width, bands = dtype_of(picture), picture.width, picture.bands
    region = library().Region.new(picture)
    tall = max(1, min(MOST_BAND, BAND // (width * bands * dtype.itemsize)))
    for top in range(0, height, tall):
        band = region.fetch(0, top, width, min(tall, height - top))
        if top + tall >= height and picture.height > height:
            region.fetch(0, picture.height - 1, width, 1)  # where warnings of the last rows show
        yield np.frombuffer(band, dtype).reshape(-1, width, bands)


def field(picture: Any, name: str) -> Any:
    """A field of the header, ``None`` where it has none of that name."""
    return picture.get(name) if picture.get_typeof(name) else None


def save(
    file: BinaryIO,
    name: str,
    strips: Iterable[Pixels],
    shape: Shape,
    dtype: np.dtype[Any],
    options: dict[str, Any],
    begun: Callable[[bytes], bytes],
) -> None:
    """Pull strips in this thread while libvips saves them in another; what either raises comes out.

    Args:
        file: Where to.
        name: "png" or "jpeg".
        strips: Rows (h, W, C) from top to bottom; each is read until the next but two is asked for.
        shape: Height, width, channels of the picture; four channels of a JPEG are separations.
        dtype: Of the samples.
        options: Of the saver.
        begun: The start of the file, as libvips has written it, to how it is to be.
    """
    if _saved_in and _saved_in[0] != os.getpid():
        raise ImageError(
            "this process was forked from one that has written pictures, and libvips cannot write "
            "in it; start processes by spawn or forkserver"
        )
    _saved_in[:] = [os.getpid()]
    vips = library()
    source, target = _Feed(shape, dtype, cmyk=name == "jpeg" and shape[2] == 4), _Drain(file, begun)

    def saved() -> None:
        try:
            getattr(source.picture(), f"{name}save_target")(target.custom(), **options)
        except vips.Error as error:
            raise target.error or ImageError(
                f"{shape[1]} x {shape[0]} cannot be written as {name.upper()}; choose -f tiff"
            ) from error

    with ThreadPoolExecutor(1) as thread:
        saving = thread.submit(saved)
        try:
            for strip in strips:
                if not source.put(strip, saving):
                    break
        except BaseException:
            source.put(None, saving)
            saving.exception()  # it ends by itself, as its picture ends too early
            raise
        source.put(None, saving)
        saving.result()
    target.close()


class _Feed:
    """Rows that come from Python, as a file that libvips reads.

    libvips has no source of bare samples. So a source shows an uncompressed BigTIFF that is never
    whole: its header is made here, and its strips are the rows as they come.
    """

    def __init__(self, shape: Shape, dtype: np.dtype[Any], *, cmyk: bool) -> None:
        self._start = _bare_tiff(shape, dtype, cmyk)
        self._total = len(self._start) + shape[0] * shape[1] * shape[2] * dtype.itemsize
        self._at = 0  # where libvips reads
        self._next = len(self._start)  # where the bytes begin that are held
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
        self._source = vips.SourceCustom()  # it must live as long as the picture
        self._source.on_read(self._read)
        self._source.on_seek(self._seek)
        load = vips.Image.tiffload_source
        return load(self._source, access="sequential", fail_on="warning", unlimited=True)

    def _read(self, size: int) -> bytes | memoryview | None:
        part: bytes | memoryview
        if self._at < len(self._start):
            part = self._start[self._at : self._at + size]
        elif self._at != self._next:
            return None  # libvips reads forwards; if it ever did not, this would be an error there
        else:
            if not self._held and not self._ended:
                strip = self._waiting.get()
                self._ended = strip is None
                if strip is not None:
                    self._held = np.ascontiguousarray(strip).data.cast("B")
            part, self._held = self._held[:size], self._held[size:]
            self._next += len(part)
        self._at += len(part)
        return part or None

    def _seek(self, offset: int, whence: int) -> int:
        self._at = offset + {0: 0, 1: self._at, 2: self._total}[whence]
        return self._at


def _bare_tiff(shape: Shape, dtype: np.dtype[Any], cmyk: bool) -> bytes:
    """A BigTIFF up to its first strip."""
    height, width, channels = shape
    tall, row = strip_rows(shape, dtype), width * channels * dtype.itemsize
    sizes = [min(tall, height - y) * row for y in range(0, height, tall)]
    directory: tags.Directory = {
        Tag.WIDTH: tags.long(width, "<"),
        Tag.HEIGHT: tags.long(height, "<"),
        Tag.BITS: tags.short([dtype.itemsize * 8] * channels, "<"),
        Tag.PHOTOMETRIC: tags.short(5 if cmyk else 1 if channels < 3 else 2, "<"),
        Tag.SAMPLES: tags.short(channels, "<"),
        Tag.ROWS_PER_STRIP: tags.long(tall, "<"),
        Tag.COUNTS: tags.long8(sizes, "<"),
    }
    if channels in (2, 4) and not cmyk:
        directory[Tag.EXTRA_SAMPLES] = tags.short(tags.STRAIGHT, "<")
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16)

    def written(first: int) -> bytes:
        offsets = [first, *(first + np.cumsum(sizes[:-1], dtype=np.int64)).tolist()]
        places = directory | {Tag.OFFSETS: tags.long8(offsets, "<")}
        return head + tags.write_directory(places, 16, "<", big=True)

    return written(len(written(0)))


class _Drain:
    """A file as libvips writes it; an error waits in ``error``, as none may be raised into it."""

    def __init__(self, file: BinaryIO, begun: Callable[[bytes], bytes]) -> None:
        self.error: BaseException | None = None
        self._file, self._begun, self._held = file, begun, b""
        self._open = True

    def custom(self) -> Any:
        """The target of libvips."""
        target = library().TargetCustom()
        target.on_write(self._write)
        return target

    def _write(self, data: Any) -> int:
        """Write; not before the start of the file is there."""
        try:
            self._held += bytes(data)
            if not self._open or len(self._held) >= START:
                self.close()
        except BaseException as error:  # noqa: BLE001 - it is raised where libvips returns
            self.error = error
            return -1
        return len(data)

    def close(self) -> None:
        """Write what is held."""
        if self._open and self._held:
            self._held, self._open = self._begun(self._held), False
        self._file.write(self._held)
        self._held = b""
