"""What ``upscale INPUT...`` does with its options: load, plan, run, report."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from upscale.batch.discover import STDIN, Listed, Source, read_list
from upscale.batch.job import Job
from upscale.batch.report import Record, Summary
from upscale.batch.settings import Size
from upscale.batch.task import STDOUT
from upscale.cli import watching
from upscale.cli.console import Console
from upscale.cli.interrupt import Interrupt
from upscale.cli.progress import Progress
from upscale.errors import OutputError, UsageError

if TYPE_CHECKING:
    from upscale.batch.cluster import ClusterRun
    from upscale.batch.plan import Plan
    from upscale.batch.run import Run
    from upscale.batch.stages import Payload
    from upscale.upscaler import Upscaler

Write = Callable[[Record], None]


@dataclass(frozen=True)
class Show:
    """Where results are shown: people on stderr, records on stdout and in a file."""

    console: Console
    json: bool = False
    report: str | None = None


@dataclass(frozen=True)
class How:
    """How a run is carried out."""

    jobs: int = 0
    fail_fast: bool = False
    max_pixels: int | None = None
    watch: bool = False
    engine: str = "local"
    workers: int = 0


def parse_size(
    size: str | None, width: int | None, height: int | None, max_side: int | None
) -> Size | None:
    """Return the final size that the options ask for, or ``None``.

    Raises:
        UsageError: ``size`` is not WxH, or stands beside the other options.
    """
    if size is None:
        given = (width, height, max_side)
        return None if given == (None, None, None) else Size(width, height, max_side)
    match = re.fullmatch(r"(\d+)[xX×](\d+)", size.strip())
    if match is None:
        raise UsageError(f"size {size!r} is not WIDTHxHEIGHT: give for example 1920x1080")
    if (width, height, max_side) != (None, None, None):
        raise UsageError("--size and --width, --height, or --max-side: give one kind")
    return Size(int(match[1]), int(match[2]))


def parse_shard(shard: str | None) -> tuple[int, int] | None:
    """Return (i, N) of ``i/N``.

    Raises:
        UsageError: It is something else.
    """
    if shard is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", shard.strip())
    if match is None:
        raise UsageError(f"shard {shard!r} is not I/N: give for example 3/16")
    return int(match[1]), int(match[2])


def read_listed(
    files_from: str | None, inputs: Sequence[str], *, null: bool
) -> tuple[Listed, ...] | None:
    """Return the names in a list, or ``None`` when there is none.

    Raises:
        UsageError: It cannot be read, or stdin is to be the list and a picture.
    """
    if files_from is None:
        if null:
            raise UsageError("-0 tells how a list is separated: give --files-from too")
        return None
    if files_from == STDIN:
        if STDIN in inputs:
            raise UsageError("stdin is named as the list and as a picture: give one of the two")
        if sys.stdin is None:
            raise UsageError("--files-from - is stdin, which is closed; pipe a list into it")
        return tuple(read_list(sys.stdin.buffer, null=null))
    try:
        with open(files_from, "rb") as file:  # noqa: PTH123 - a name of any bytes
            return tuple(read_list(file, null=null))
    except OSError as error:
        raise UsageError(f"--files-from {files_from}: {error.strerror}") from error


def _sources(job: Job) -> list[Source]:
    if not job.inputs and job.listed is None:
        raise UsageError("no input: name files, folders, globs, URLs, or -; see 'upscale --help'")
    return job.discover()


def _check_streams(job: Job, show: Show) -> None:
    """Refuse what stdout cannot do, before any work."""
    if show.report == STDOUT:
        raise UsageError("--report - names no file: give --json for records on stdout")
    output = job.request.output
    pictures = output == STDOUT or (output is None and STDIN in job.inputs)
    if sys.stdout is None and (pictures or show.json):
        raise UsageError("stdout is closed; give -o FILE, and --report FILE instead of --json")
    if not pictures:
        return
    if show.json:
        raise UsageError("the picture and --json both go to stdout; give -o FILE or --report FILE")
    if sys.stdout.isatty():
        raise UsageError("the picture would go to the terminal; give -o FILE, or redirect stdout")


def _load(job: Job, console: Console) -> list[Upscaler]:
    """Load the model on its devices; what the library logs goes to stderr."""
    from upscale.batch.engines import load_engines

    handler = _LogLines(console)
    logger = logging.getLogger("upscale")
    logger.handlers = [handler]
    logger.propagate = False
    return load_engines(job.settings)


class _LogLines(logging.Handler):
    """The library's log as lines on stderr."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO if console.verbose else logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.note(f"upscale: {record.getMessage()}")


def rehearse(job: Job, show: Show, how: How) -> int:
    """``--dry-run``: show what would be done, and what would fail; return the exit status."""
    from upscale.batch.preflight import survey
    from upscale.cli.rehearsal import write_survey

    sources = _sources(job)
    upscalers = _load(job, show.console)
    plan = job.plan(sources, upscalers[0])
    found = survey(plan, job.settings, upscalers[0], max_pixels=how.max_pixels)
    return write_survey(found, show)


def execute(job: Job, show: Show, how: How) -> int:
    """Do the job; return the exit status."""
    _check_streams(job, show)
    if how.engine not in {"local", "ray"}:
        raise UsageError(f"engine {how.engine!r}: give local or ray")
    if how.watch:
        watching.check(job)
    sources = _sources(job)
    started = time.monotonic()
    summary = Summary()
    with _Records(show, summary) as records:
        if sources and all(source.error for source in sources) and not how.watch:
            for source in sources:
                records.write(Record(source.location, "", "failed", source.error))
            return _finish(summary, show.console, started, None)
        upscalers = _load(job, show.console)

        def carry(plan: Plan, interrupt: Interrupt) -> None:
            _carry_out(job, plan, upscalers, how, show, records, interrupt)

        if how.watch:
            interrupt = watching.watch(job, upscalers, carry, records.write, show.console)
            return _finish(summary, show.console, started, interrupt, resumes=True)
        plan = job.plan(sources, upscalers[0])
        with Interrupt() as interrupt:
            carry(plan, interrupt)
    return _finish(summary, show.console, started, interrupt, resumes=bool(plan.roots))


def _carry_out(
    job: Job,
    plan: Plan,
    upscalers: Sequence[Upscaler],
    how: How,
    show: Show,
    records: _Records,
    interrupt: Interrupt,
) -> None:
    """Carry out a plan, and pass on its records."""
    with Progress(show.console, plan) as progress:
        run = _prepare(job, plan, upscalers, how, progress)
        interrupt.call(run.stop)
        for payload in run:
            if payload.data is not None:
                write_stdout(payload.data)
            records.write(payload.record)
            progress.record(payload.record)
            _say_losses(payload, len(plan.tasks) == 1, show.console)


def _say_losses(payload: Payload, alone: bool, console: Console) -> None:
    """Say what an output does not hold: of a single picture always, else when verbose."""
    for note in payload.notes:
        if alone:
            console.warn(note)
        else:
            console.detail(f"{payload.record.input}: {note}")


def write_stdout(data: bytes) -> None:
    """Write all bytes to stdout, which may be unbuffered and then takes only what fits a pipe."""
    left = memoryview(data)
    while left:
        left = left[sys.stdout.buffer.write(left) :]
    sys.stdout.buffer.flush()


def _prepare(
    job: Job, plan: Plan, upscalers: Sequence[Upscaler], how: How, progress: Progress
) -> Run | ClusterRun:
    from upscale.batch.run import Options

    options = Options(
        jobs=how.jobs,
        fail_fast=how.fail_fast,
        max_pixels=how.max_pixels,
        progress=progress.tiles,
    )
    if how.engine == "ray":
        from upscale.batch.cluster import Cluster

        gpus = 1.0 if upscalers[0].device.type == "cuda" else 0.0
        return job.run_on(Cluster(workers=how.workers, gpus=gpus), plan, options)
    return job.run(plan, upscalers, options)


def _finish(
    summary: Summary,
    console: Console,
    started: float,
    interrupt: Interrupt | None,
    *,
    resumes: bool = False,
) -> int:
    """Write the failures and the sum; return the exit status."""
    for record in summary.failures:
        console.error(f"{record.input}: {record.error}")
    seconds = time.monotonic() - started
    if interrupt is not None and interrupt.status:
        left = "the same command resumes" if resumes else "nothing half-done is left"
        console.error(f"{interrupt.name}; {summary.text(seconds)}; {left}")
        return interrupt.status
    if summary.total > 1:
        console.note(summary.text(seconds))
    elif summary.skipped:
        console.note("nothing to do: the output is there")
    return 1 if summary.failures else 0


class _Records:
    """Counts records and writes them as NDJSON, to stdout and to a file."""

    def __init__(self, show: Show, summary: Summary) -> None:
        self._json = show.json
        self._summary = summary
        self._path = show.report
        self._file: TextIO | None = None

    def __enter__(self) -> _Records:
        if self._path is not None:
            self._refuse_other_file(self._path)
            try:
                self._file = open(self._path, "w", encoding="ascii")  # noqa: PTH123
            except OSError as error:
                raise OutputError(f"report {self._path}: {error.strerror}") from error
        return self

    def __exit__(self, *reason: object) -> None:
        if self._file is not None:
            self._file.close()

    @staticmethod
    def _refuse_other_file(path: str) -> None:
        """Refuse to replace a file that is no report; a pipe or a device is not read."""
        if not Path(path).is_file():
            return
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                start = file.read(9)
        except OSError:
            return
        if start and start != b'{"input":':
            raise UsageError(f"report {path} exists and is no report; choose another name")

    def write(self, record: Record) -> None:
        self._summary.add(record)
        line = record.line()
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
        if self._json:
            sys.stdout.write(line)
            sys.stdout.flush()
