"""One picture of a batch: claimed, read, enlarged, written, recorded in the journal.

The threads of a run and the workers of a cluster do the same.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from upscale import storage
from upscale.batch.claims import Folders
from upscale.batch.extras import write_maps
from upscale.batch.journal import Journal, JournalLine
from upscale.batch.plan import Plan, is_done, is_ours
from upscale.batch.report import Record
from upscale.batch.task import STDOUT, Task
from upscale.errors import ImageError, OutputError, UpscaleError, UsageError
from upscale.image import FORMATS, MAX_PIXELS, Reader, create_pages
from upscale.image import open as open_image
from upscale.inference import Progress
from upscale.memory import MOST_PIXELS, is_out_of_memory
from upscale.settings import Settings
from upscale.storage import Content
from upscale.upscaler import (
    Result,
    Upscaler,
    Write,
    bytes_of,
    encoded,
    encoding_of,
    goes_by_rows,
    process_pages,
    same_format,
    save,
    to_file,
)

if TYPE_CHECKING:
    from upscale.upscaler.uncertainty import MapRows

LOSSY = frozenset(kind.name for kind in FORMATS.values() if kind.quality and not kind.lossless)
BUDGET_BYTES = 1 << 30  # of the pictures in hand


class Stopped(BaseException):
    """The run was stopped while a picture waited for the network or was in it."""


class Runner(Protocol):
    """What runs a picture through the network."""

    together: int  # pages that are given to it at once

    @property
    def upscaler(self) -> Upscaler:
        """The model, or one of several that differ in their device alone."""

    def run(self, reader: Reader, write: Write, settings: Settings, progress: Progress) -> Result:
        """``upscale.upscaler.process``, in this thread or in the network's own."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a picture.

    Attributes:
        record: For the report.
        data: The bytes that are to go to stdout.
        hint: Options that suit the picture better.
        is_fatal: Why it failed will meet every further picture too.
    """

    record: Record
    data: bytes | memoryview | None = None
    hint: str = ""
    is_fatal: bool = False


class Budget:
    """Bounds the bytes of the pictures in hand; one picture alone is always let in."""

    def __init__(self, most: int = BUDGET_BYTES) -> None:
        self._most = most
        self._inside = self._pictures = 0
        self._closed = False
        self._changed = threading.Condition()

    def check(self) -> None:
        """Raise ``Stopped`` once the budget is closed."""
        if self._closed:
            raise Stopped

    @contextmanager
    def of(self, count: int) -> Iterator[None]:
        """Wait until ``count`` bytes fit, and hold them.

        Raises:
            Stopped: The budget was closed.
        """
        with self._changed:
            while not self._closed and self._pictures and self._inside + count > self._most:
                self._changed.wait()
            if self._closed:
                raise Stopped
            self._inside += count
            self._pictures += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= count
                self._pictures -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


@dataclass(frozen=True)
class Work:
    """What all pictures of a run have in common.

    Attributes:
        settings: As in the plan.
        digest: Of settings and weights, for the journal.
        overwrite: What was done before this run began is done again.
        max_pixels: Largest input; ``None``: what can be done.
        folders: Journals and claims.
        budget: Of memory.
    """

    settings: Settings
    digest: str
    overwrite: bool = False
    max_pixels: int | None = None
    folders: Folders = field(default_factory=Folders)
    budget: Budget = field(default_factory=Budget)

    def do(self, task: Task, runner: Runner, progress: Progress) -> Outcome | None:
        """Do one picture; ``None`` where another process has it in hand."""
        with self.folders.claim(task) as is_mine:
            if not is_mine:
                return None
            try:
                return self._do(task, runner, progress)
            except BrokenPipeError:  # nobody reads stdout any more
                raise
            except Exception as error:  # noqa: BLE001 - one bad picture is one failed record
                return Outcome(failed(task, error), is_fatal=is_fatal(error))

    def _do(self, task: Task, runner: Runner, progress: Progress) -> Outcome:
        # 1. Did another process do it while this one waited?
        journal = self.folders.journal(task)
        if journal is not None:
            now = self._recheck(task, journal)
            if isinstance(now, Record):
                return Outcome(now)
            task = now
        # 2. Read it, as far as its header; settle size and format of the output.
        started = time.perf_counter()
        try:
            content = storage.content(task.source.location, task.source.data, self.budget.check)
            reader = open_image(
                content.where,
                max_pixels=self.max_pixels or most_pixels(isinstance(content.where, str)),
                assume_icc=assumed_profile(self.settings.assume_icc),
            )
        except OSError as error:
            raise ImageError(storage.reason(error)) from error
        kind = task.format or same_format(reader.format)
        is_series = reader.count != 1
        by_rows = is_series or goes_by_rows(reader, runner.upscaler, self.settings)
        # 3. Decode a small picture here, ahead of the network; a large one as it is enlarged.
        before, after = bytes_of(reader, runner.upscaler, self.settings)
        job = _Job(self, task, content, reader, kind, by_rows, runner, progress)
        asked = time.perf_counter()
        with self.budget.of(0 if by_rows else before + 2 * after):
            job.waited += time.perf_counter() - asked
            if not by_rows:
                job.reader = reader.in_memory()
            # 4. Run it, and encode it: a small one here, behind the network.
            data, result = job.write(journal)
            seconds = time.perf_counter() - started - job.waited
        if self.settings.lossless and kind in LOSSY:
            ignored = f"--lossless: {kind} is written with losses alone; choose -f png, webp or jxl"
            result = replace(result, losses=(*result.losses, ignored))
        return Outcome(Record.of(task, result, seconds), data, result.hint)

    def _recheck(self, task: Task, journal: Journal) -> Task | Record:
        """The task as it is now to be done, or the record of a picture that is done."""
        journal.refresh()
        now = storage.try_stat(task.output)
        if now is None:
            return task
        is_news = not self.overwrite or journal.is_news(task.relative)
        if is_news and is_done(task, now, journal, self.digest):
            return skipped(task, "done by another process")
        return replace(task, replace=True) if is_ours(task, now, journal) else task


@dataclass(eq=False)
class _Job:
    """A picture that is open; ``waited`` counts the seconds in which it waited for others."""

    work: Work
    task: Task
    content: Content
    reader: Reader
    format: str
    by_rows: bool
    runner: Runner
    progress: Progress
    waited: float = 0.0

    def write(self, journal: Journal | None) -> tuple[bytes | memoryview | None, Result]:
        """Write the output and its line in the journal; give its bytes where they go to stdout.

        Raises:
            OutputError: It exists, or cannot be written.
        """
        task = self.task
        if task.output == STDOUT and self.reader.count != 1:
            return None, self._run(cast("BinaryIO", _Stdout()))
        if task.output == STDOUT:
            return encoded(self._run)
        try:
            storage.make_folder(task.output)
            if storage.is_url(task.output):
                data, result = encoded(self._run)
                self._upload(data, journal)
                return None, result

            def finished(name: str, sha256: str) -> None:
                self.content.check_unchanged()
                if journal is not None:
                    written = storage.stat(name)
                    journal.add(self._line(written.size, written.stamp, sha256))

            result = save(
                task.output,
                self._run,
                by_rows=self.by_rows,
                replace=task.replace,
                finished=finished,
            )
        except OSError as error:
            raise OutputError(f"cannot be written: {storage.reason(error)}") from error
        return None, result

    def _settings(self) -> Settings:
        """The settings without what this format does not know."""
        settings, kind = self.work.settings, FORMATS[self.format]
        return replace(
            settings,
            lossless=settings.lossless and kind.lossless,
            palette=settings.palette and kind.name == "png",
        )

    def _run(self, file: BinaryIO) -> Result:
        """Enlarge the picture; encode a small one in this thread, so that the network is free."""
        settings, seed = self.work.settings, self.task.seed
        if seed is not None:  # it is one draw
            settings = replace(settings, samples=1, seed=seed)
        if self.reader.count != 1:
            return self._run_pages(file, settings)
        rows = _map_of(self.task)
        later: list[Callable[[], None]] = []
        write = to_file(
            file,
            self.format,
            self._settings(),
            later=None if self.by_rows else later,
            variances=None if rows is None else rows.add,
        )
        asked = time.perf_counter()
        result = self.runner.run(self.reader, write, settings, self.progress)
        self.waited += time.perf_counter() - asked - result.seconds
        for encode in later:
            encode()
        if rows is not None:
            write_maps(self.task, rows, result.provenance())
        return result

    def _run_pages(self, file: BinaryIO, settings: Settings) -> Result:
        """Enlarge page after page, or the pictures of a stream."""
        if self.task.maps:
            raise UsageError("--uncertainty is of one picture, and the input has several")
        runner, encoding = self.runner, encoding_of(self._settings())
        is_pipe = self.task.output == STDOUT
        pages = create_pages(file, self.format, encoding, self.reader.count, is_pipe=is_pipe)
        return process_pages(
            self.reader,
            pages,
            lambda page, write, progress: runner.run(page, write, settings, progress),
            self._settings(),
            self.progress,
            held=lambda page: not goes_by_rows(page, runner.upscaler, settings),
            at_once=runner.together,
        )

    def _upload(self, data: memoryview, journal: Journal | None) -> None:
        """Write to an object store; the line stands before the object and again after it."""
        sha256 = storage.sha256(data)

        def note(stamp: str) -> None:
            if journal is not None:
                journal.add(self._line(len(data), stamp, sha256))

        written = storage.write(
            self.task.output, bytes(data), replace=self.task.replace, before=lambda: note("")
        )
        note(written.stamp)

    def _line(self, size: int, stamp: str, sha256: str) -> JournalLine:
        return JournalLine(
            output=self.task.relative,
            input=storage.absolute(self.task.source.location),
            input_size=self.content.stat.size,
            input_stamp=self.content.stat.stamp,
            input_sha256=self.content.sha256(),
            settings=self.work.digest,
            output_size=size,
            output_stamp=stamp,
            output_sha256=sha256,
        )


class _Stdout:
    """Stdout as a file, which may be unbuffered and then takes only what fits a pipe."""

    def write(self, data: bytes | memoryview) -> int:
        """Write all of it."""
        left = memoryview(data)
        while left:
            left = left[sys.stdout.buffer.write(left) :]
        return len(data)

    def flush(self) -> None:
        """Pass on what is held back."""
        sys.stdout.buffer.flush()


def _map_of(task: Task) -> MapRows | None:
    """What gathers the map of a picture, where one is wanted; only then OpenCV is imported."""
    if not task.maps:
        return None
    from upscale.upscaler.uncertainty import MapRows

    return MapRows()


def most_pixels(is_file: bool) -> int:
    """The largest input that is taken where no limit is given: more of a file read as it goes."""
    return MOST_PIXELS if is_file else MAX_PIXELS


@lru_cache(maxsize=4)
def assumed_profile(path: str | None) -> bytes | None:
    """Return the ICC profile to assume for a picture without one.

    Raises:
        OSError: It cannot be read.
    """
    return None if path is None else Path(path).read_bytes()


def skipped(task: Task, reason: str) -> Record:
    """Return the record of a picture whose output is there."""
    return Record(task.source.location, task.output, "skipped", reason)


def failed(task: Task, error: BaseException | str) -> Record:
    """Return the record of a picture that failed, with the reason on one line."""
    return Record(task.source.location, task.output, "failed", describe(error))


def settled(plan: Plan) -> Iterator[Outcome]:
    """Yield an outcome for every task whose end is known beforehand."""
    for task in plan.tasks:
        if task.action == "skip":
            yield Outcome(skipped(task, task.reason))
        elif task.action == "fail":
            yield Outcome(failed(task, task.reason))


def describe(error: BaseException | str) -> str:
    """Return why something failed; what is no error of this package is shown as the bug it is."""
    if isinstance(error, str):
        return error
    if isinstance(error, UpscaleError):
        return " ".join(str(error).split())
    if isinstance(error, OSError):
        return storage.reason(error)
    if is_out_of_memory(error):
        return "out of memory; give a smaller --tile, or fewer --jobs"
    if os.environ.get("UPSCALE_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)
    message = " ".join(str(error).split())
    return f"internal error: {type(error).__name__}: {message}; UPSCALE_DEBUG=1 shows where"


def is_fatal(error: BaseException) -> bool:
    """Whether an error will meet every further picture too: the disk is full or read-only."""
    cause = error.__cause__ if isinstance(error, OutputError) else error
    fatal = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
    return isinstance(cause, OSError) and cause.errno in fatal
