"""What ``upscale INPUT...`` does with its options: load, plan, run, report."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from upscale.batch.discover import STDIN
from upscale.batch.job import Job
from upscale.batch.report import Record, Summary
from upscale.batch.task import STDOUT
from upscale.cli import watching
from upscale.cli.console import Console, beside_bars
from upscale.cli.interrupt import signals
from upscale.cli.options import CommandOptions
from upscale.cli.progress import RunProgress, waiting
from upscale.cli.startup import quick_imports
from upscale.errors import OutputError, UsageError

if TYPE_CHECKING:
    from upscale.batch.plan import Plan
    from upscale.batch.run import Run
    from upscale.batch.work import Outcome
    from upscale.upscaler import Upscaler


def _check_streams(job: Job, command: CommandOptions) -> None:
    """Refuse what stdout cannot do, before any work."""
    if command.report == STDOUT:
        raise UsageError("--report - names no file: give --json for records on stdout")
    output = job.outputs.output
    pictures = output == STDOUT or (output is None and STDIN in job.inputs)
    if sys.stdout is None and (pictures or command.json):
        raise UsageError("stdout is closed; give -o FILE, and --report FILE instead of --json")
    if not pictures:
        return
    if command.json:
        raise UsageError("the picture and --json both go to stdout; give -o FILE or --report FILE")
    if sys.stdout.isatty():
        raise UsageError("the picture would go to the terminal; give -o FILE, or redirect stdout")


def _load(job: Job, console: Console) -> list[Upscaler]:
    """Load the model on its devices; what the library logs goes to stderr."""
    console.show_log()
    with waiting(console, f"loading {job.settings.model}"), quick_imports():
        return job.load()


def dry_run(job: Job, command: CommandOptions) -> int:
    """``--dry-run``: show what would be done, and what would fail; return the exit status."""
    sources = job.discover()
    upscalers = _load(job, command.console)
    from upscale.batch.preflight import preflight  # with PyTorch, which _load imports quicker
    from upscale.cli.dry_run import write_preflight

    plan = job.plan(sources, upscalers[0])
    found = preflight(plan, job.settings, upscalers[0], max_pixels=job.options.max_pixels)
    return write_preflight(found, command)


def execute(job: Job, command: CommandOptions) -> int:
    """Do the job; return the exit status."""
    _check_streams(job, command)
    if command.watch:
        watching.check(job)
    console, started, summary = command.console, time.monotonic(), Summary()
    sources = job.discover()
    with _Records(command, summary) as records:
        if sources and all(source.error for source in sources) and not command.watch:
            for source in sources:
                records.write(Record(source.location, "", "failed", source.error))
            return _finish(summary, console, started)
        upscalers = _load(job, console)

        def do(plan: Plan) -> None:
            _do(job, plan, upscalers, command, records)

        def fail(record: Record) -> None:
            records.write(record)
            _say_failure(record, console)

        if command.watch:
            watching.watch(job, upscalers, do, fail, console)
            return _finish(summary, console, started, resumes=True, tell=False)
        plan = job.plan(sources, upscalers[0])
        do(plan)
    return _finish(summary, console, started, resumes=bool(plan.roots), planned=len(plan.tasks))


def _do(
    job: Job,
    plan: Plan,
    upscalers: Sequence[Upscaler],
    command: CommandOptions,
    records: _Records,
) -> None:
    """Carry out a plan, and pass on its records."""
    console, hinted = command.console, False
    records.begin()
    for note in plan.notes:
        console.warn(note)
    with RunProgress(console, plan) as bar:
        if command.engine == "ray":
            gpus = 1.0 if upscalers[0].device.type == "cuda" else 0.0
            run: Run = job.run_on_cluster(plan, bar.share, workers=command.workers, gpus=gpus)
        else:
            run = job.run(plan, upscalers, bar.share)
        with signals.stopping(run.stop):
            for outcome in run:
                if outcome.data is not None:
                    write_stdout(outcome.data)
                records.write(outcome.record)
                bar.record(outcome.record)
                if command.watch:
                    _say_failure(outcome.record, console)
                _say_losses(outcome, len(plan.tasks) == 1, console)
                if outcome.hint and not hinted:
                    console.warn(f"{outcome.record.input}: {outcome.hint}")
                    hinted = True


def _say_failure(record: Record, console: Console) -> None:
    if record.status == "failed":
        console.error(f"{record.input}: {record.error}")


def _say_losses(outcome: Outcome, alone: bool, console: Console) -> None:
    """Say what an output does not hold: of a single picture always, else when verbose.

    When verbose, say too what was chosen for the picture.
    """
    if outcome.record.denoise is not None:
        console.detail(f"{outcome.record.input}: denoise {outcome.record.denoise:g}")
    for note in outcome.record.losses:
        if alone:
            console.warn(note)
        else:
            console.detail(f"{outcome.record.input}: {note}")


def write_stdout(data: bytes | memoryview) -> None:
    """Write all bytes to stdout, which may be unbuffered and then takes only what fits a pipe."""
    left = memoryview(data)
    while left:
        left = left[sys.stdout.buffer.write(left) :]
    sys.stdout.buffer.flush()


def _finish(
    summary: Summary,
    console: Console,
    started: float,
    *,
    resumes: bool = False,
    planned: int = 0,
    tell: bool = True,
) -> int:
    """Write the failures, unless they were told, and the sum; return the exit status."""
    for record in summary.failures if tell else ():
        _say_failure(record, console)
    seconds = time.monotonic() - started
    if signals.status:
        left = "the same command resumes" if resumes else "nothing half-done is left"
        console.error(f"{signals.name}; {summary.text(seconds, planned)}; {left}")
        return signals.status
    if max(planned, summary.total) > 1:
        console.note(summary.text(seconds, planned))
        if summary.lossy:
            console.note(f"{summary.lossy} with losses, which -v and the records name")
    elif summary.skipped:
        console.note("nothing to do: the output is there")
    return 1 if summary.failures else 0


class _Records:
    """Counts records and writes them as NDJSON, to stdout and to a file."""

    def __init__(self, command: CommandOptions, summary: Summary) -> None:
        self._json = command.json
        self._summary = summary
        self._path = command.report
        self._file: TextIO | None = None
        self._is_new = self._has_begun = False

    def __enter__(self) -> _Records:
        if self._path is not None:
            self._refuse_other_file(self._path)
            self._is_new = not os.path.lexists(self._path)
            try:
                self._file = open(self._path, "a", encoding="ascii")  # noqa: PTH123
            except OSError as error:
                raise OutputError(f"report {self._path}: {error.strerror}") from error
        return self

    def begin(self) -> None:
        """Empty the report of an earlier run; until then, a run that is refused leaves it."""
        if self._file is not None and not self._has_begun and Path(self._path or "").is_file():
            self._file.truncate(0)
        self._has_begun = True

    def __exit__(self, *reason: object) -> None:
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

    def write(self, record: Record) -> None:
        self.begin()
        self._summary.add(record)
        line = record.line()
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
        if self._json:
            with beside_bars():
                sys.stdout.write(line)
                sys.stdout.flush()
