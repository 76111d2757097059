"""``Worker.do(task)``: one picture claimed, read, enlarged, written, recorded in the journal.

The threads of a pool and the workers of a cluster do the same.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from upscale import storage
from upscale.batch.inputs import Input
from upscale.batch.plan import Plan, decide
from upscale.batch.task import STDOUT, Task
from upscale.errors import ImageError, OutputError, UpscaleError, UsageError, reason
from upscale.image import FORMATS, MAX_PIXELS, Reader
from upscale.image import open as open_image
from upscale.inference import Progress
from upscale.memory import MOST_PIXELS, is_out_of_memory
from upscale.settings import Settings
from upscale.storage import Content, Stat
from upscale.upscaler import Result, Upscaler
from upscale.upscaler.job import (
    Write,
    bytes_of,
    encoded,
    goes_by_rows,
    same_format,
    save,
    to_file,
    write_pages,
)

if TYPE_CHECKING:
    from upscale.batch.journal import Journal

LOSSY = frozenset(kind.name for kind in FORMATS.values() if kind.quality and not kind.lossless)
FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # every further picture meets these too
BUDGET_BYTES = 1 << 30  # of the pictures in hand

# ``upscale.upscaler.process`` without its model: in this thread, or in the network's own.
Process = Callable[[Reader, Write, Settings, Progress], Result]


class Stopped(BaseException):
    """The run was stopped while a picture waited for the network or was in it."""


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
        """Wait until ``count`` bytes fit, and hold them; see ``check``."""
        with self._changed:
            while not self._closed and self._pictures and self._inside + count > self._most:
                self._changed.wait()
            self.check()
            self._inside, self._pictures = self._inside + count, self._pictures + 1
        try:
            yield
        finally:
            with self._changed:
                self._inside, self._pictures = self._inside - count, self._pictures - 1
                self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Worker:
    """Does the pictures of a plan; several threads may share it."""

    def __init__(
        self,
        plan: Plan,
        upscaler: Upscaler,
        process: Process,
        max_pixels: int | None = None,
        together: int = 1,
    ) -> None:
        """Prepare; nothing is opened yet.

        ``upscaler`` may be one of several that differ in their device alone; ``together`` is how
        many pages are given to the network at once.
        """
        self._plan, self._upscaler, self._process = plan, upscaler, process
        self._max_pixels, self._together = max_pixels, together
        self._journals: dict[str, Journal] = {}
        self._paged: tuple[Input, Content, Reader] | None = None
        self._lock = threading.Lock()
        self.budget = Budget()

    def do(self, task: Task, progress: Progress) -> Result | None:
        """Do one picture; ``None`` where another process has it in hand.

        A picture that fails is a result too.

        Raises:
            Stopped: The budget was closed, or ``progress`` raised it.
        """
        claimed: AbstractContextManager[bool] = nullcontext(True)
        if task.root is not None:
            from upscale.batch.journal import claim

            claimed = claim(task.root, task.relative)
        try:
            with claimed as is_mine:
                return self._do(task, progress) if is_mine else None
        except BrokenPipeError:  # nobody reads stdout any more
            raise
        except Exception as error:  # noqa: BLE001 - one bad picture is one failed result
            return failed(task, error)

    def close(self) -> None:
        """Close the journals."""
        for journal in self._journals.values():
            journal.close()

    def _do(self, task: Task, progress: Progress) -> Result:
        # 1. Did another process do it while this one waited?
        journal = self._journal(task.root)
        if journal is not None:
            journal.refresh()
            now = storage.try_stat(task.output)
            task = decide(task, now, journal, self._plan.outputs) or task
            if task.action == "skip":
                return skipped(task, "done by another process")
        # 2. Read it, as far as its header; settle size and format of the output.
        started = time.perf_counter()
        picture = self._open(task)
        reader, settings = picture.reader, picture.settings
        before, after = bytes_of(reader, self._upscaler, settings)
        # 3. Decode a small picture here, ahead of the network; a large one as it is enlarged.
        asked = time.perf_counter()
        with self.budget.of(0 if picture.by_rows else before + 2 * after):
            picture.waited += time.perf_counter() - asked
            if not picture.by_rows:
                picture.reader = reader.in_memory()
            # 4. Run it, and write it with its line in the journal.
            data, enlarge = None, partial(self._enlarge, picture, progress)
            if task.output != STDOUT:
                result = self._save(picture, journal, enlarge)
            elif picture.is_series:
                result = enlarge(cast("BinaryIO", _Stdout()))
            else:
                data, result = encoded(enlarge)
        losses = result.losses
        if self._plan.settings.lossless and picture.format in LOSSY:
            remedy = "is written with losses alone; choose -f png, webp or jxl"
            losses = (*losses, f"--lossless: {picture.format} {remedy}")
        return replace(
            result,
            input=task.source.location,
            output=task.output,
            losses=losses,
            seconds=time.perf_counter() - started - picture.waited,
            data=data,
        )

    def _enlarge(self, picture: _Picture, progress: Progress, file: BinaryIO) -> Result:
        """Run a picture through the network, and encode it into a file."""
        if picture.is_series:
            return self._enlarge_pages(picture, progress, file)
        task, maps = picture.task, None
        if task.maps:
            from upscale.upscaler.uncertainty import MapRows  # only then OpenCV is imported

            maps = MapRows()
        # A small picture is encoded here, so that the network is free for the next one.
        later: list[Callable[[], None]] = []
        write = to_file(
            file,
            picture.format,
            picture.settings,
            later=None if picture.by_rows else later,
            variances=maps.add if maps else None,
            record=picture.record,
        )
        asked = time.perf_counter()
        result = self._process(picture.reader, write, picture.settings, progress)
        picture.waited += time.perf_counter() - asked - result.seconds
        if later:
            later[-1]()  # one before it is of a group that failed
        if maps is not None:
            may_replace = self._plan.outputs.overwrite or task.replace
            maps.write(task.maps, result.provenance(), replace=may_replace)
        return result

    def _enlarge_pages(self, picture: _Picture, progress: Progress, file: BinaryIO) -> Result:
        """Enlarge page after page, or the pictures of a stream."""
        if picture.task.maps:
            raise UsageError("--uncertainty is of one picture, and the input has several")
        settings = picture.settings
        return write_pages(
            picture.reader,
            file,
            picture.format,
            lambda page, write, note: self._process(page, write, settings, note),
            self._upscaler,
            settings,
            progress,
            is_pipe=picture.task.output == STDOUT,
            at_once=self._together,
            record=picture.record,
        )

    def _journal(self, root: str | None) -> Journal | None:
        """The journal of a folder, opened once."""
        if root is None:
            return None
        from upscale.batch.journal import open_journal

        with self._lock:
            if root not in self._journals:
                self._journals[root] = open_journal(root)
            return self._journals[root]

    def _open(self, task: Task) -> _Picture:
        """A picture, read as far as its header."""
        source, settings = task.source, self._plan.settings
        try:
            if not task.page:
                content, reader = self._read(source)
                reader = reader.only(settings.page)
            else:  # its file is read once for all its pages, which come one after the other
                with self._lock:
                    if self._paged is None or self._paged[0] != source:
                        self._paged = (source, *self._read(source))
                    _, content, reader = self._paged
                reader = reader.only((task.page, task.page))
        except OSError as error:
            raise ImageError(reason(error)) from error
        name = task.format or same_format(reader.format)
        # What this format does not know is left out.
        lossless = settings.lossless and FORMATS[name].lossless
        palette = settings.palette and name == "png"
        settings = replace(settings, lossless=lossless, palette=palette)
        if task.seed is not None:  # it is one draw
            settings = replace(settings, samples=1, seed=task.seed)
        by_rows = reader.count != 1 or goes_by_rows(reader, self._upscaler, settings)
        record = {}
        if not settings.strip_metadata and content.sha256:  # so that it is known again
            record = {"input": content.sha256, "settings": task.digest}
        return _Picture(task, content, reader, name, settings, by_rows, record)

    def _read(self, source: Input) -> tuple[Content, Reader]:
        """The content of an input, and what reads it."""
        content = storage.content(source.location, source.data, self.budget.check)
        return content, opened(content, self._plan.settings, self._max_pixels)

    def _save(
        self, picture: _Picture, journal: Journal | None, enlarge: Callable[[BinaryIO], Result]
    ) -> Result:
        """Write the output and its line in the journal."""
        task, content = picture.task, picture.content

        def note(written: Stat, sha256: str) -> None:
            if journal is not None:
                from upscale.batch.journal import JournalLine

                read, name = content.stat, storage.absolute(task.source.location)
                origin = (task.relative, name, read.size, read.stamp, content.sha256, task.digest)
                journal.add(JournalLine(*origin, written.size, written.stamp, sha256))

        def finished(name: str, sha256: str) -> None:
            content.check_unchanged()
            is_file = task.source.data is None and os.path.isfile(task.source.location)
            if self._plan.outputs.keep_dates and is_file:
                os.utime(name, ns=(time.time_ns(), int(content.stat.stamp)))
            note(storage.stat(name), sha256)

        try:
            storage.make_folder(task.output)
            if not storage.is_url(task.output):
                options = {"by_rows": picture.by_rows, "replace": task.replace}
                return save(task.output, enlarge, finished=finished, **options)
            # In an object store the line stands before the object, and again after it.
            data, result = encoded(enlarge)
            sha256 = storage.sha256(data)
            before = partial(note, Stat(len(data), ""), sha256)
            note(
                storage.write(task.output, bytes(data), replace=task.replace, before=before), sha256
            )
        except OSError as error:
            raise OutputError(f"cannot be written: {reason(error)}") from error
        return result


@dataclass(eq=False)
class _Picture:
    """A picture that is open.

    Attributes:
        format: Of the output.
        settings: For this picture and that format.
        by_rows: Whether it is too large to be held with its result, or has pages.
        record: What the provenance holds besides.
        waited: Seconds in which it waited for others.
    """

    task: Task
    content: Content
    reader: Reader
    format: str
    settings: Settings
    by_rows: bool
    record: dict[str, str]
    waited: float = 0.0

    @property
    def is_series(self) -> bool:
        """Whether it has pages, or is a stream of pictures."""
        return self.reader.count != 1


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


def opened(content: Content, settings: Settings, max_pixels: int | None) -> Reader:
    """What reads a picture; of one without ICC profile, that of ``settings`` is assumed."""
    return open_image(
        content.where,
        max_pixels=max_pixels or most_pixels(isinstance(content.where, str)),
        assume_icc=assumed_profile(settings.assume_icc),
    )


def most_pixels(is_file: bool) -> int:
    """The largest input that is taken where no limit is given: more of a file read as it goes."""
    return MOST_PIXELS if is_file else MAX_PIXELS


@lru_cache(maxsize=4)
def assumed_profile(path: str | None) -> bytes | None:
    """Return the ICC profile to assume for a picture without one."""
    return None if path is None else Path(path).read_bytes()


def skipped(task: Task, why: str) -> Result:
    """The result of a picture whose output is there."""
    return Result(task.source.location, task.output, "skipped", why)


def failed(task: Task, error: BaseException | str) -> Result:
    """The result of a picture that failed, with the reason on one line."""
    cause = error.__cause__ if isinstance(error, OutputError) else error
    is_fatal = isinstance(cause, OSError) and cause.errno in FATAL
    text = error if isinstance(error, str) else describe(error)
    text = f"page {task.page}: {text}" if task.pages > 1 else text
    return Result(task.source.location, task.output, "failed", text, is_fatal=is_fatal)


def describe(error: BaseException) -> str:
    """Return why something failed; what is no error of this package is shown as the bug it is."""
    if isinstance(error, UpscaleError | OSError):
        return reason(error)
    if is_out_of_memory(error):
        return "out of memory; give a smaller --tile, or fewer --jobs"
    if os.environ.get("UPSCALE_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)
    name = type(error).__name__
    return f"internal error: {name}: {reason(error)}; UPSCALE_DEBUG=1 shows where"
