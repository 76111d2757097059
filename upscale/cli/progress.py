"""How far a command is: tqdm's bars on a terminal; of a run, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from upscale.bars import PictureBar, bar
from upscale.cli.console import Console, printable, shorten

if TYPE_CHECKING:
    from upscale.batch.plan import Plan
    from upscale.batch.task import Task
    from upscale.upscaler import Result

NAME_WIDTH = 28


def draw(console: Console, total: float | None, what: str, **more: Any) -> Any:
    """A bar on a terminal; where the console is quiet, or stderr is no terminal, it draws none."""
    hidden = console.quiet or not Console.is_terminal()
    return bar(total, _short(what), notebook=False, disable=hidden, **more)


@contextmanager
def waiting(console: Console, what: str) -> Iterator[None]:
    """A line on a terminal that says what is waited for; nothing elsewhere."""
    if console.quiet or not Console.is_terminal():
        yield
        return
    with draw(console, None, what, bar_format="{desc} ..."):
        yield


@contextmanager
def counting(console: Console, total: int, what: str) -> Iterator[Callable[[str], None]]:
    """A bar over ``total`` steps; call what it gives with the name of each finished step."""
    with draw(console, total, what) as drawn:

        def step(name: str) -> None:
            drawn.set_description_str(_short(name), refresh=False)
            drawn.update()

        yield step


class RunProgress(PictureBar):
    """Follows a run: its bar on a terminal, else and when verbose a line for each picture."""

    def __init__(self, console: Console, plan: Plan) -> None:
        """Prepare; nothing is drawn before the context is entered."""
        self._console, self._total = console, len(plan.todo)
        hidden = not plan.sizes or console.quiet or not Console.is_terminal()
        what = plan.todo[0].source.relative if self._total == 1 else "pictures"
        super().__init__(plan.sizes, _short(what), notebook=False, disable=hidden)
        self._lines = hidden or self._total == 1 or console.verbose

    def told(self, task: Task, done: float, total: int) -> None:
        """Note how many tiles of a picture the network has done."""
        self.share(task.output, done / total)

    def record(self, result: Result) -> None:
        """Note a finished picture."""
        if result.output not in self._sizes or result.error == "done before":
            return
        self.finish(result.output, result.pixels)
        if self._lines and (self._total > 1 or result.status == "ok"):
            count = f"[{self._done}/{self._total}] " if self._total > 1 else ""
            self._console.note(count + describe(result))


def describe(result: Result) -> str:
    """Return a result as a line for people."""
    if result.status != "ok":
        return f"{result.status}: {result.input}"
    sizes = f"{result.width}x{result.height} to {result.out_width}x{result.out_height}"
    return f"{result.input} -> {result.output} ({sizes}, {result.seconds:.1f} s)"


def _short(text: str) -> str:
    return shorten(printable(text), NAME_WIDTH)
