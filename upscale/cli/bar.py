"""On a terminal a bar that counts steps and a line that says what is waited for; else nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from upscale.cli.console import Console, printable, shorten

NAME_WIDTH = 28

Step = Callable[[str], None]


@contextmanager
def waiting(console: Console, what: str) -> Iterator[None]:
    """A line that moves on a terminal while something is waited for; nothing elsewhere."""
    if console.quiet or not Console.is_terminal():
        yield
        return
    from rich.console import Console as RichConsole
    from rich.text import Text

    screen = RichConsole(stderr=True, highlight=False, emoji=False)
    with screen.status(Text(printable(what))):
        yield


@contextmanager
def fetching(console: Console, name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar over a download; call what it gives with the bytes done and all bytes (0: unknown)."""
    if console.quiet or not Console.is_terminal():
        yield lambda done, total: None
        return
    from rich import progress
    from rich.console import Console as RichConsole

    bar = progress.Progress(
        progress.TextColumn(printable(name), markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=RichConsole(stderr=True, highlight=False, emoji=False),
        transient=True,
    )
    task = bar.add_task("", total=None)
    with bar:
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


@contextmanager
def counting(console: Console, total: int, what: str) -> Iterator[Step]:
    """A bar over ``total`` steps; call what it gives with the name of each finished step.

    Args:
        console: Where it is quiet there is no bar, nor where stderr is no terminal.
        total: How many steps there are.
        what: What is counted, for people.
    """
    if console.quiet or not Console.is_terminal():
        yield lambda name: None
        return
    from rich import progress
    from rich.console import Console as RichConsole

    bar = progress.Progress(
        progress.TextColumn("{task.fields[name]}", markup=False),
        progress.BarColumn(bar_width=None),
        progress.MofNCompleteColumn(),
        progress.TextColumn(what, markup=False),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=RichConsole(stderr=True, highlight=False, emoji=False),
        transient=True,
    )
    task = bar.add_task("", total=total, name="")
    with bar:
        yield lambda name: bar.update(task, advance=1, name=shorten(printable(name), NAME_WIDTH))
