"""What ``upscale INPUT...`` does with its options: load, plan, run, report."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from upscale.batch.inputs import GLOB, POLL_SECONDS, STDIN, Input, Watcher, discover
from upscale.batch.plan import NothingNewError, Plan, load, plan_for
from upscale.batch.task import STDOUT
from upscale.cli.commands import quick_imports
from upscale.cli.console import Console, RunProgress, beside_bars, waiting
from upscale.cli.interrupt import signals
from upscale.cli.options import CommandOptions
from upscale.errors import OutputError, UsageError, reason
from upscale.options import Outputs, RunOptions, Selection
from upscale.settings import Settings
from upscale.storage import is_url, localize

if TYPE_CHECKING:
    from upscale.upscaler import Result, Upscaler

MOST_NAMED = 8  # files that no format reads


@dataclass(frozen=True)
class MainJob:
    """What was asked for; ``names`` are files, folders, globs, URLs, or ``-``."""

    names: tuple[str, ...]
    settings: Settings
    outputs: Outputs
    selection: Selection
    options: RunOptions

    def discover(self, unread: list[str] | None = None) -> list[Input]:
        """Return the pictures that were named; ``unread`` takes those that no format reads."""
        unread = [] if unread is None else unread
        inputs = discover(self.names, self.selection, self.outputs.output, unread)
        if unread and not inputs:
            raise UsageError(f"no picture found that can be read: {unread_text(unread)}")
        return inputs

    def plan(self, sources: Sequence[Input], upscaler: Upscaler) -> Plan:
        """Name the outputs of the pictures."""
        return plan_for(upscaler, sources, self.settings, self.outputs)


def unread_text(paths: Sequence[str]) -> str:
    """Which files of folders no format reads, for people."""
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    files = "1 file is" if len(paths) == 1 else f"{len(paths)} files are"
    names = ", ".join(paths[:MOST_NAMED])
    return f"{files} of formats that are not read, convert them first: {names}{more}"


def _check_streams(job: MainJob, command: CommandOptions) -> None:
    """Refuse what stdout cannot do, before any work."""
    if command.report == STDOUT:
        raise UsageError("--report - names no file: give --json for records on stdout")
    output = job.outputs.output
    pictures = output == STDOUT or (output is None and STDIN in job.names)
    if sys.stdout is None and (pictures or command.json):
        raise UsageError("stdout is closed; give -o FILE, and --report FILE instead of --json")
    if not pictures:
        return
    if command.json:
        raise UsageError("the picture and --json both go to stdout; give -o FILE or --report FILE")
    if sys.stdout.isatty():
        raise UsageError("the picture would go to the terminal; give -o FILE, or redirect stdout")


def _load(job: MainJob, console: Console) -> list[Upscaler]:
    """Load the model on its devices; what the library logs goes to stderr."""
    console.show_log()
    with waiting(console, f"loading {job.settings.model}"), quick_imports():
        return load(job.settings, job.options)


def dry_run(job: MainJob, command: CommandOptions) -> int:
    """``--dry-run``: show what would be done, and what would fail; return the exit status."""
    unread: list[str] = []
    sources = job.discover(unread)
    upscalers = _load(job, command.console)
    from upscale.batch.preflight import preflight  # with PyTorch, which _load imports quicker
    from upscale.cli.dry_run import write_preflight

    plan = job.plan(sources, upscalers[0])
    found = preflight(plan, upscalers[0], max_pixels=job.options.max_pixels)
    if unread:
        command.console.warn(unread_text(unread))
    return write_preflight(found, command)


def execute(job: MainJob, command: CommandOptions) -> int:
    """Do the job; return the exit status."""
    _check_streams(job, command)
    if command.watch:
        _check_watched(job)
    console, report = command.console, Report(command)
    sources = job.discover(report.unread)
    with report:
        if sources and all(source.error for source in sources) and not command.watch:
            from upscale.upscaler import Result

            for source in sources:
                report.write(Result(source.location, "", "failed", source.error))
            return report.finish(console)
        upscalers = _load(job, console)
        if command.watch:
            _watch(job, upscalers, command, report)
            return report.finish(console, resumes=True, tell=False)
        plan = job.plan(sources, upscalers[0])
        _do(job, plan, upscalers, command, report)
    return report.finish(console, resumes=plan.resumes, planned=len(plan.tasks))


def _do(
    job: MainJob, plan: Plan, upscalers: Sequence[Upscaler], command: CommandOptions, report: Report
) -> None:
    """Carry out a plan, and pass on its results."""
    from upscale.batch import pool

    console, hinted = command.console, False
    report.begin()
    for note in plan.notes:
        console.warn(note)
    with RunProgress(console, plan) as bar:
        if command.engine == "ray":
            from upscale.batch.cluster import run_on_cluster

            gpus = 1.0 if upscalers[0].device.type == "cuda" else 0.0
            run = run_on_cluster(plan, job.options, bar.told, workers=command.workers, gpus=gpus)
        else:
            run = pool.run(plan, upscalers, job.options, bar.told)
        with signals.stopping(run.stop):
            for result in run:
                if result.data is not None:
                    write_stdout(result.data)
                report.write(result)
                bar.record(result)
                if command.watch:
                    _say_failure(result, console)
                _say_details(result, upscalers[0], console, alone=len(plan.tasks) == 1)
                if result.hint and not hinted:
                    console.warn(f"{result.input}: {result.hint}")
                    hinted = True


def _check_watched(job: MainJob) -> None:
    """Refuse what ``--watch`` cannot look into."""
    if STDIN in job.names or job.selection.files_from is not None or not job.names:
        raise UsageError("--watch looks into folders: give folders, and no list or -")
    for name in map(localize, job.names):
        if not is_url(name) and not GLOB & set(name) and not Path(name).exists():
            raise UsageError(f"--watch {name}: there is no such folder; make it first")


def _watch(
    job: MainJob, upscalers: Sequence[Upscaler], command: CommandOptions, report: Report
) -> None:
    """Look into the folders again and again; return once a signal has come."""
    watcher = Watcher()
    command.console.note("watching; Ctrl-C ends")
    while not signals.status:
        with signals.stopping(lambda: None):
            ready = watcher.ready(job.discover())
            plans = list(_plans(job, ready, upscalers[0], command.console, report))
            if not ready:
                time.sleep(POLL_SECONDS)
        for plan in plans:
            if not signals.status:
                _do(job, plan, upscalers, command, report)


def _plans(
    job: MainJob, ready: list[Input], upscaler: Upscaler, console: Console, report: Report
) -> Iterator[Plan]:
    """Plan all new pictures at once; where that is impossible, each for itself."""
    from upscale.upscaler import Result

    if not ready:
        return
    try:
        yield job.plan(ready, upscaler)
    except NothingNewError:
        return
    except UsageError as error:
        if len(ready) > 1:
            for source in ready:
                yield from _plans(job, [source], upscaler, console, report)
            return
        failed = Result(ready[0].location, "", "failed", str(error))
        report.write(failed)
        _say_failure(failed, console)


def _say_failure(result: Result, console: Console) -> None:
    if result.status == "failed":
        console.error(f"{result.input}: {result.error}")


def _say_details(result: Result, upscaler: Upscaler, console: Console, *, alone: bool) -> None:
    """Say what an output does not hold: of a single picture always, else when verbose.

    When verbose, say too which networks ran, and what was left to bicubic.
    """
    if console.verbose and result.status == "ok" and result.scale:
        console.detail(f"{result.input}: {networks_of(upscaler, result)}")
    for note in result.losses:
        if alone:
            console.warn(note)
        else:
            console.detail(f"{result.input}: {note}")


def networks_of(upscaler: Upscaler, result: Result) -> str:
    """The networks that enlarged a picture, and what was left to bicubic."""
    parts, scale = [], 1
    for stage in upscaler.chain(result.scale):
        if not stage.weights:
            continue  # bicubic, as what is left
        scale *= stage.scale
        parts.append(f"{' + '.join(stage.weights)} x{stage.scale}")
        for name in ("alpha", "denoise"):
            if (share := getattr(stage, name)) is not None:
                parts[-1] += f", {name} {share:g}"
    native = (result.width or 0) * scale, (result.height or 0) * scale
    if not parts or native != (result.out_width, result.out_height):
        parts.append(f"bicubic to {result.out_width}x{result.out_height}")
    return ", then ".join(parts)


def write_stdout(data: bytes | memoryview) -> None:
    """Write all bytes to stdout, which may be unbuffered and then takes only what fits a pipe."""
    left = memoryview(data)
    while left:
        left = left[sys.stdout.buffer.write(left) :]
    sys.stdout.buffer.flush()


class Report:
    """Counts results and writes them as NDJSON, to stdout and to a file.

    Attributes:
        unread: Files of folders that no format reads.
    """

    def __init__(self, command: CommandOptions) -> None:
        self.unread: list[str] = []
        self._done = self._skipped = self._pixels = self._lossy = 0
        self._failures: list[Result] = []
        self._started = time.monotonic()
        self._json, self._path = command.json, command.report
        self._file: TextIO | None = None
        self._is_new = self._has_begun = False

    def __enter__(self) -> Report:
        if self._path is not None:
            self._refuse_other_file(self._path)
            self._is_new = not os.path.lexists(self._path)
            try:
                self._file = open(self._path, "a", encoding="ascii")  # noqa: PTH123
            except OSError as error:
                raise OutputError(f"report {self._path}: {reason(error)}") from error
        return self

    def begin(self) -> None:
        """Empty the report of an earlier run; until then, a run that is refused leaves it."""
        if self._file is not None and not self._has_begun and Path(self._path or "").is_file():
            self._file.truncate(0)
        self._has_begun = True

    def __exit__(self, *raised: object) -> None:
        if self._file is None:
            return
        self._file.close()
        if self._is_new and not self._has_begun:
            Path(self._path or "").unlink(missing_ok=True)

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

    def write(self, result: Result) -> None:
        """Count a result and write its line."""
        self.begin()
        if result.status == "ok":
            self._done += 1
            self._lossy += bool(result.losses)
            self._pixels += result.pixels
        elif result.status == "skipped":
            self._skipped += 1
        else:
            self._failures.append(result)
        line = result.line()
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
        if self._json:
            with beside_bars():
                sys.stdout.write(line)
                sys.stdout.flush()

    def finish(
        self, console: Console, *, resumes: bool = False, planned: int = 0, tell: bool = True
    ) -> int:
        """Say the failures, unless they were told, and the sum; return the exit status."""
        for result in self._failures if tell else ():
            _say_failure(result, console)
        if self.unread and tell:
            console.warn(unread_text(self.unread))
        total = self._done + self._skipped + len(self._failures)
        if signals.status:
            left = "the same command resumes" if resumes else "nothing half-done is left"
            console.error(f"{signals.name}; {self._sum(planned - total)}; {left}")
            return signals.status
        if max(planned, total) > 1:
            console.note(self._sum(planned - total))
            if self._lossy:
                console.note(f"{self._lossy} with losses, which -v and the records name")
        elif self._skipped:
            console.note("nothing to do: the output is there")
        return 1 if self._failures else 0

    def _sum(self, missing: int) -> str:
        """The counts on one line; ``missing`` pictures were planned and not tried."""
        counts = (
            (self._skipped, "already there"),
            (len(self._failures), "failed"),
            (max(0, missing), "not tried"),
        )
        parts = [f"{self._done} done", *(f"{count} {what}" for count, what in counts if count)]
        speed = f" ({self._pixels / 1e6:.2f} MP of input)" if self._pixels >= 10_000 else ""
        return f"{', '.join(parts)} in {time.monotonic() - self._started:.1f} s{speed}"
