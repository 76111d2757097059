"""How far a run is: a bar with an estimate on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from upscale.cli.console import Console, printable, shorten

if TYPE_CHECKING:
    from upscale.batch.plan import Plan
    from upscale.batch.report import Record
    from upscale.batch.task import Task

NAME_WIDTH = 28
LONG_SECONDS = 2.0  # a picture of several that takes longer has a bar of its own


class ProgressBar:
    """Follows a run. Use it as a context; give it every record and what the network has done."""

    def __init__(self, console: Console, plan: Plan) -> None:
        """Prepare; nothing is drawn before the context is entered.

        Args:
            console: Where to write; when it is quiet, nothing is.
            plan: What will be done.
        """
        self._console = console
        self._todo = [task for task in plan.tasks if task.action == "do"]
        self._total = len(self._todo)
        self._done = 0
        self._pixels = 0
        self._bar = _Bar(self._todo) if Console.is_terminal() and not console.quiet else None
        self._lines = self._bar is None or self._total == 1 or console.verbose
        self._sizes = {task.source.location: _bytes_of(task) for task in self._todo}

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def share(self, task: Task, done: float, total: int) -> None:
        """Note how many tiles of a picture the network has done."""
        if self._bar is not None:
            self._bar.share(task, done / total)

    def record(self, record: Record) -> None:
        """Note a finished picture."""
        if record.input not in self._sizes or record.error == "done before":
            return
        self._done += 1
        self._pixels += (record.width or 0) * (record.height or 0)
        if self._bar is not None:
            self._bar.advance(self._sizes[record.input], self._done, self._pixels)
        if self._lines:
            count = f"[{self._done}/{self._total}] " if self._total > 1 else ""
            if self._total > 1 or record.status == "ok":
                self._console.note(count + describe(record))


def describe(record: Record) -> str:
    """Return a record as a line for people."""
    if record.status != "ok":
        return f"{record.status}: {record.input}"
    sizes = f"{record.width}x{record.height} to {record.out_width}x{record.out_height}"
    return f"{record.input} -> {record.output} ({sizes}, {record.seconds:.1f} s)"


def _bytes_of(task: Task) -> int:
    return max(1, task.source.stat.size if task.source.stat is not None else 1)


class _Bar:
    """A bar over all pictures by bytes, and for a long picture one over the network's work."""

    def __init__(self, tasks: list[Task]) -> None:
        from rich import progress
        from rich.console import Console as RichConsole

        self._progress = progress.Progress(
            progress.TextColumn("{task.fields[name]}", markup=False),
            progress.BarColumn(bar_width=None),
            progress.TextColumn("{task.fields[count]}", markup=False),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=RichConsole(stderr=True, highlight=False, emoji=False),
            transient=True,
        )
        self._single = len(tasks) == 1
        self._count = len(tasks)
        self._all = self._progress.add_task(
            "",
            total=sum(_bytes_of(task) for task in tasks),
            visible=not self._single,
            name="pictures",
            count=f"0/{len(tasks)}",
        )
        self._one = self._progress.add_task("", visible=False, name="", count="")
        self._current, self._done = "", 0.0
        self._since = self._heard = 0.0

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def share(self, task: Task, done: float) -> None:
        now = time.monotonic()
        if task.source.location != self._current:
            if 0 < self._done < 1 and now - self._heard < LONG_SECONDS:
                return  # one that is in work is followed to its end
            self._current, self._since = task.source.location, now
            name = shorten(printable(task.source.relative), NAME_WIDTH)
            self._progress.reset(self._one, total=1, visible=self._single, name=name, count="0 %")
        elif now - self._since > LONG_SECONDS:
            self._progress.update(self._one, visible=True)
        self._done, self._heard = done, now
        count = "writing" if done == 1 else f"{int(100 * done)} %"
        self._progress.update(self._one, completed=done, count=count)

    def advance(self, size: int, done: int, pixels: int) -> None:
        count = f"{done}/{self._count}, {pixels / 1e6:.1f} MP"
        self._progress.update(self._all, advance=size, count=count)
        self._progress.update(self._one, visible=False)
