"""The three stages of one picture: read and decode, enlarge, encode and write.

Each takes what the one before gave. The threads of ``run`` and the workers of ``cluster`` call the
same functions.
"""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from upscale.batch import storage
from upscale.batch.engines import model_label
from upscale.batch.journal import Entry, Journal
from upscale.batch.plan import Plan, is_done, is_ours
from upscale.batch.report import Record
from upscale.batch.settings import Settings
from upscale.batch.storage import Stat
from upscale.batch.task import STDOUT, Task
from upscale.device import is_out_of_memory
from upscale.errors import ImageError, OutputError, UpscaleError
from upscale.image import (
    FORMATS,
    MAX_PIXELS,
    Image,
    Metadata,
    check_output,
    decode,
    encode,
    losses,
    probe,
    strip_metadata,
    with_provenance,
)
from upscale.image.fit import transparent
from upscale.upscaler import Result, Upscaler

Progress = Callable[[int, int], None]  # tiles done, tiles in all


@dataclass(frozen=True, eq=False)
class Loaded:
    """A picture that was read and decoded."""

    task: Task
    image: Image
    stat: Stat
    sha256: str
    size: tuple[int, int]  # final width, height
    format: str
    started: float


@dataclass(frozen=True, eq=False)
class Enlarged:
    """A picture that is ready to be written."""

    loaded: Loaded
    image: Image
    result: Result


@dataclass(frozen=True, eq=False)
class Payload:
    """What became of a picture.

    Attributes:
        record: For the report.
        data: The bytes that are to go to stdout.
        notes: What the output could not hold.
        is_fatal: Why it failed will meet every further picture too.
    """

    record: Record
    data: bytes | None = None
    notes: tuple[str, ...] = ()
    is_fatal: bool = False


def read(task: Task) -> tuple[bytes, Stat]:
    """Return the bytes of a task's input and their stat.

    Raises:
        ImageError: They cannot be read.
    """
    try:
        if task.source.data is not None:
            return task.source.data, Stat(len(task.source.data), "")
        return storage.read(task.source.location)
    except OSError as error:
        raise ImageError(storage.reason(error)) from error


def final_size(settings: Settings, upscaler: Upscaler, width: int, height: int) -> tuple[int, int]:
    """Return the final (width, height) of a picture, by the settings or the model's scale."""
    if settings.size is not None:
        return settings.size.of(width, height)
    final = upscaler.final_size(height, width, scale=settings.scale)
    return final[1], final[0]


def load(
    task: Task,
    data: bytes,
    stat: Stat,
    settings: Settings,
    upscaler: Upscaler,
    *,
    max_pixels: int | None = None,
    started: float | None = None,
) -> Loaded:
    """Decode a picture and settle the size and format of its output.

    Raises:
        ImageError: It is damaged, or its output cannot be held by the format.
    """
    started = time.perf_counter() if started is None else started
    most, profile = max_pixels or MAX_PIXELS, assumed_profile(settings.assume_icc)
    image = decode(data, max_pixels=most, assume_icc=profile)
    size = final_size(settings, upscaler, image.width, image.height)
    name = task.format or _same_format(data)
    check_held(settings, name, size, has_alpha=transparent(image))
    return Loaded(task, image, stat, storage.sha256(data), size, name, started)


@lru_cache(maxsize=4)
def assumed_profile(path: str | None) -> bytes | None:
    """Return the ICC profile to assume for a picture without one.

    Raises:
        ImageError: It cannot be read.
    """
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"ICC profile {path}: {storage.reason(error)}") from error


def check_held(
    settings: Settings, name: str, size: tuple[int, int], *, has_alpha: bool = False
) -> None:
    """Refuse an output that its format cannot hold, before any work on it.

    Raises:
        ImageError: With the limit and a format that can.
    """
    check_output(
        name,
        *size,
        has_alpha=has_alpha,
        background=settings.background,
        quality=settings.quality,
        lossless=settings.lossless and FORMATS[name].lossless,
    )


def _same_format(data: bytes) -> str:
    """Return the format of the input where it can be written, else PNG."""
    name = probe(data).format
    return name if name in FORMATS and FORMATS[name].writable else "png"


def enlarge(loaded: Loaded, upscaler: Upscaler, progress: Progress | None = None) -> Enlarged:
    """Run the network."""
    width, height = loaded.size
    image, result = upscaler.enlarge(loaded.image, size=(height, width), progress=progress)
    return Enlarged(loaded, image, result)


def enlarge_together(group: Sequence[Loaded], upscaler: Upscaler) -> list[Enlarged]:
    """Run the network once for small pictures of one size."""
    width, height = group[0].size
    done = upscaler.enlarge_together([one.image for one in group], size=(height, width))
    return [Enlarged(one, *result) for one, result in zip(group, done, strict=True)]


def write(enlarged: Enlarged, settings: Settings, digest: str, journal: Journal | None) -> Payload:
    """Encode a picture and write it: whole, checked, recorded in the journal, or not at all.

    Args:
        enlarged: The picture.
        settings: Quality and so on.
        digest: Digest of settings and weights, for the journal.
        journal: The journal of the output folder, or ``None``.

    Raises:
        ImageError: The format cannot hold it.
        OutputError: It exists, or cannot be written.
    """
    loaded, task = enlarged.loaded, enlarged.loaded.task
    metadata = labelled(enlarged.image.metadata, enlarged.result, settings)
    image = Image(enlarged.image.pixels, metadata)
    data = encode(
        image,
        loaded.format,
        quality=settings.quality,
        lossless=settings.lossless and FORMATS[loaded.format].lossless,
        background=settings.background,
        palette=settings.palette and loaded.format == "png",
    )
    _check(data, loaded)
    if task.output != STDOUT:
        publish(loaded, data, digest, journal)
    record = done_record(task, enlarged.result, loaded.started)
    notes = (*loaded.image.metadata.notes, *losses(image, loaded.format))
    return Payload(record, data if task.output == STDOUT else None, notes)


def labelled(metadata: Metadata, result: Result, settings: Settings) -> Metadata:
    """Return metadata with the record of how it was made, or without what may be dropped.

    The record holds nothing that changes from run to run, so that the same settings give the same
    bytes.
    """
    if settings.strip_metadata:
        return strip_metadata(metadata)
    return with_provenance(metadata, result.provenance() | {"model": model_label(settings.model)})


def publish(loaded: Loaded, data: bytes, digest: str, journal: Journal | None) -> None:
    """Write the bytes of an output under its name, with its line in the journal.

    Raises:
        OutputError: It exists, or cannot be written.
    """
    task, stat = loaded.task, loaded.stat
    entry = Entry(
        output=task.relative,
        input=storage.absolute(task.source.location),
        input_size=stat.size,
        input_stamp=stat.stamp,
        input_sha256=loaded.sha256,
        settings=digest,
        output_size=len(data),
        output_stamp="",
        output_sha256=storage.sha256(data),
    )

    def promise(written: Stat) -> None:
        if journal is not None:
            journal.add(replace(entry, output_stamp=written.stamp))

    try:
        storage.make_folder(task.output)
        written = storage.write(task.output, data, replace=task.replace, promise=promise)
        if journal is not None and storage.is_url(task.output):
            promise(written)
    except OSError as error:
        failure = OutputError(f"cannot be written: {storage.reason(error)}")
        raise failure from error


def _check(data: bytes, loaded: Loaded) -> None:
    """Read the header of what is to be written and compare it with what was asked for."""
    info = probe(data)
    width, height = loaded.size
    if (info.width, info.height) != (width, height):
        raise OutputError(
            f"the encoder gave {info.width} x {info.height} instead of {width} x {height} pixels"
        )


def done_record(task: Task, result: Result, started: float) -> Record:
    """Return the record of a picture that was written."""
    return Record(
        input=task.source.location,
        output=task.output,
        status="ok",
        model=result.model,
        weights=result.weights,
        alpha=result.alpha,
        scale=round(result.scale, 6),
        device=result.device,
        dtype=result.dtype,
        tile=result.tile,
        retries=result.retries,
        width=result.width,
        height=result.height,
        out_width=result.out_width,
        out_height=result.out_height,
        seconds=round(time.perf_counter() - started, 4),
    )


def skipped(task: Task, reason: str) -> Record:
    """Return the record of a picture whose output is there."""
    return Record(task.source.location, task.output, "skipped", reason)


def failed(task: Task, error: BaseException | str) -> Record:
    """Return the record of a picture that failed, with the reason on one line."""
    return Record(task.source.location, task.output, "failed", describe(error))


def foregone(plan: Plan) -> Iterator[Payload]:
    """Yield a payload for every task whose end is known beforehand."""
    for task in plan.tasks:
        if task.action == "skip":
            yield Payload(skipped(task, task.reason))
        elif task.action == "fail":
            yield Payload(failed(task, task.reason))


def describe(error: BaseException | str) -> str:
    """Return why something failed; what is no error of this package is shown as the bug it is."""
    if isinstance(error, str):
        return error
    if isinstance(error, UpscaleError):
        return " ".join(str(error).split())
    if isinstance(error, OSError):
        return storage.reason(error)
    if is_out_of_memory(error):
        return "out of memory; give a smaller --tile, fewer --jobs, or a TIFF"
    if os.environ.get("UPSCALE_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)
    message = " ".join(str(error).split())
    return f"internal error: {type(error).__name__}: {message}; UPSCALE_DEBUG=1 shows where"


def is_fatal(error: BaseException) -> bool:
    """Whether an error will meet every further picture too: the disk is full or read-only."""
    cause = error.__cause__ if isinstance(error, OutputError) else error
    fatal = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
    return isinstance(cause, OSError) and cause.errno in fatal


def recheck(task: Task, journal: Journal, digest: str, *, overwrite: bool) -> Task | Record:
    """Look again, with the claim in hand, whether another process did the picture meanwhile.

    Args:
        task: The picture.
        journal: The journal of its output folder.
        digest: Digest of settings and weights.
        overwrite: What was done before this run began is done again.

    Returns:
        The task as it is now to be done, or the record of a picture that is done.
    """
    journal.refresh()
    now = storage.try_stat(task.output)
    if now is None:
        return task
    is_news = not overwrite or journal.is_news(task.relative)
    if is_news and is_done(task, now, journal, digest):
        return skipped(task, "done by another process")
    return replace(task, replace=True) if is_ours(task, now, journal) else task
