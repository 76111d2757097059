"""Large pictures: read by rows, enlarged by rows, written by rows; memory does not grow with them.

The pixels are those that the whole picture gives: network and colour work by rows in either case.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from upscale import files
from upscale.batch import storage
from upscale.batch.journal import Entry, Journal
from upscale.batch.settings import Settings
from upscale.batch.stages import (
    Payload,
    Progress,
    assumed_profile,
    check_held,
    done_record,
    final_size,
    labelled,
)
from upscale.batch.storage import Stat, is_url
from upscale.batch.task import STDOUT, Task
from upscale.color import FilePixels
from upscale.errors import ImageError, OutputError
from upscale.image import CAN_WRITE_ROWS, Pixels, RowReader, open_rows, write_rows
from upscale.image.model import check_size
from upscale.upscaler import Stream, Upscaler

LARGE_PIXELS = 1 << 25  # of the output; below it the whole picture takes less than the network does
SMALL_FILE = 1 << 16  # bytes; a smaller file is not looked into
MOST_PIXELS = 1 << 34  # of an input, unless --max-pixels says otherwise
HASH_BLOCK = 1 << 22


@dataclass(frozen=True, eq=False)
class Large:
    """A picture that is done by rows.

    Attributes:
        task: The picture.
        reader: Its rows.
        size: Final width and height.
        format: Of the output.
        stat: Size and time of the input.
        started: When it was begun, by ``time.perf_counter``.
    """

    task: Task
    reader: RowReader
    size: tuple[int, int]
    format: str
    stat: Stat
    started: float


def inspect(
    task: Task, settings: Settings, upscaler: Upscaler, *, max_pixels: int | None = None
) -> Large | None:
    """Return how to do a picture by rows; ``None`` for one that is done whole.

    Whole are small pictures, and those that cannot be read or written by rows.

    Raises:
        ImageError: It is too large, or its output cannot be held by the format.
    """
    started = time.perf_counter()
    location = task.source.location
    if task.source.data is not None or is_url(location) or task.output == STDOUT:
        return None
    if is_url(task.output) or settings.palette or task.format not in {"", *CAN_WRITE_ROWS}:
        return None
    try:
        stat = storage.stat(location)
        if stat.size < SMALL_FILE:
            return None
        reader = open_rows(location, assume_icc=assumed_profile(settings.assume_icc))
    except OSError as error:
        raise ImageError(storage.reason(error)) from error
    if reader is None:
        return None
    name = task.format or reader.format
    size = final_size(settings, upscaler, reader.width, reader.height)
    is_held = name == "tiff" or (name == "png" and reader.dtype != np.float32)
    if not is_held or size[0] * size[1] < LARGE_PIXELS:
        return None
    check_size(reader.width, reader.height, max_pixels or MOST_PIXELS)
    check_held(settings, name, size)
    return Large(task, _named(reader), size, name, stat, started)


def _named(reader: RowReader) -> RowReader:
    """Return the reader with the system's errors as those of the picture, not of its output."""

    def start() -> Iterator[Pixels]:
        try:
            yield from reader.rows()
        except OSError as error:
            raise ImageError(storage.reason(error)) from error

    return replace(reader, start=start)


def enlarge_file(
    large: Large,
    upscaler: Upscaler,
    settings: Settings,
    digest: str,
    journal: Journal | None,
    *,
    progress: Progress | None = None,
) -> Payload:
    """Enlarge a picture from file to file; the output appears whole or not at all.

    Raises:
        ImageError: The input is damaged.
        OutputError: The output cannot be written.
    """
    task, (width, height) = large.task, large.size
    pixels = _Interruptible(large.reader, progress)
    stream = upscaler.stream(pixels, size=(height, width), progress=progress)
    try:
        storage.make_folder(task.output)
        with files.temporary(task.output) as name:
            _write(name, large, stream, settings)
            _check_unchanged(large)
            if journal is not None:
                journal.add(_entry(large, digest, name))
            files.publish(name, task.output, replace=task.replace)
    except OSError as error:
        raise OutputError(f"cannot be written: {storage.reason(error)}") from error
    notes = large.reader.metadata.notes
    return Payload(done_record(task, stream.result, large.started), None, notes)


class _Interruptible(FilePixels):
    """A picture file whose first going through can be stopped."""

    def __init__(self, reader: RowReader, progress: Progress | None) -> None:
        super().__init__(reader)
        self._progress = progress

    def blocks(self) -> Iterator[Pixels]:
        for rows in super().blocks():
            if self._progress is not None:
                self._progress(0, 1)
            yield rows


def _write(name: str, large: Large, stream: Stream, settings: Settings) -> None:
    """Write the temporary file, flush it to the disk, read it back and compare."""
    metadata = labelled(stream.metadata, stream.result, settings)
    given, found = hashlib.sha256(), hashlib.sha256()

    def noted() -> Iterator[Pixels]:
        for rows in stream:
            given.update(rows.data.cast("B"))
            yield rows

    with open(name, "x+b") as file:
        write_rows(file, large.format, stream.shape, stream.dtype, metadata, noted())
        file.flush()
        os.fsync(file.fileno())
    written = open_rows(name)
    if written is None:  # a PNG that only the whole decoder reads
        return
    if (written.width, written.height) != large.size:
        raise OutputError("what was written does not read back; check the disk")
    if large.format == "png" and metadata.premultiplied:
        return  # written straight
    try:
        for rows in written.rows():
            found.update(np.ascontiguousarray(rows).data.cast("B"))
    except ImageError as error:
        raise OutputError(f"what was written does not read back: {error}") from error
    if found.digest() != given.digest():
        raise OutputError("what was written does not read back; check the disk")


def _check_unchanged(large: Large) -> None:
    """Refuse rows of which some may be those of another version of the input."""
    try:
        found = storage.stat(large.task.source.location)
    except OSError as error:
        raise ImageError(storage.reason(error)) from error
    if found != large.stat:
        raise ImageError("changed while it was read; run again when it is at rest")


def _entry(large: Large, digest: str, name: str) -> Entry:
    location, written = large.task.source.location, storage.stat(name)
    return Entry(
        output=large.task.relative,
        input=storage.absolute(location),
        input_size=large.stat.size,
        input_stamp=large.stat.stamp,
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
