"""What ``upscale INPUT...`` does with its options: load, plan, run, report."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from upscale.batch.inputs import STDIN
from upscale.batch.plan import load
from upscale.batch.task import STDOUT
from upscale.cli.commands import quick_imports
from upscale.cli.console import Console, beside_bars
from upscale.cli.interrupt import signals
from upscale.cli.job import MainJob, Summary, unread_text
from upscale.cli.options import CommandOptions
from upscale.cli.progress import RunProgress, waiting
from upscale.errors import OutputError, UsageError, reason

if TYPE_CHECKING:
    from upscale.batch.plan import Plan
    from upscale.upscaler import Result, Upscaler


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
        from upscale.cli import watching

        watching.check(job)
    console, started, summary = command.console, time.monotonic(), Summary()
    sources = job.discover(summary.unread)
    with _Records(command, summary) as records:
        if sources and all(source.error for source in sources) and not command.watch:
            from upscale.upscaler import Result

            for source in sources:
                records.write(Result(source.location, "", "failed", source.error))
            return _finish(summary, console, started)
        upscalers = _load(job, console)

        def do(plan: Plan) -> None:
            _do(job, plan, upscalers, command, records)

        def fail(result: Result) -> None:
            records.write(result)
            _say_failure(result, console)

        if command.watch:
            watching.watch(job, upscalers, do, fail, console)
            return _finish(summary, console, started, resumes=True, tell=False)
        plan = job.plan(sources, upscalers[0])
        do(plan)
    return _finish(summary, console, started, resumes=plan.resumes, planned=len(plan.tasks))


def _do(
    job: MainJob,
    plan: Plan,
    upscalers: Sequence[Upscaler],
    command: CommandOptions,
    records: _Records,
) -> None:
    """Carry out a plan, and pass on its results."""
    from upscale.batch import pool

    console, hinted = command.console, False
    records.begin()
    for note in plan.notes:
        console.warn(note)
    with RunProgress(console, plan) as bar:
        if command.engine == "ray":
            from upscale.batch.cluster import run_on_cluster

            gpus = 1.0 if upscalers[0].device.type == "cuda" else 0.0
            run = run_on_cluster(plan, job.options, bar.share, workers=command.workers, gpus=gpus)
        else:
            run = pool.run(plan, upscalers, job.options, bar.share)
        with signals.stopping(run.stop):
            for result in run:
                if result.data is not None:
                    write_stdout(result.data)
                records.write(result)
                bar.record(result)
                if command.watch:
                    _say_failure(result, console)
                _say_details(result, upscalers[0], console, alone=len(plan.tasks) == 1)
                if result.hint and not hinted:
                    console.warn(f"{result.input}: {result.hint}")
                    hinted = True


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
    for result in summary.failures if tell else ():
        _say_failure(result, console)
    if summary.unread and tell:
        console.warn(unread_text(summary.unread))
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
        self.begin()
        self._summary.add(result)
        line = result.line()
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
        if self._json:
            with beside_bars():
                sys.stdout.write(line)
                sys.stdout.flush()
