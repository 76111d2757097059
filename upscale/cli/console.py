"""What the command line says: lines and bars on stderr, tables and JSON lines on stdout.

No name of a file can act on the terminal.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from upscale.bars import PictureBar, bar

if TYPE_CHECKING:
    from upscale.batch.plan import Plan
    from upscale.batch.task import Task
    from upscale.upscaler import Result

NAME_WIDTH = 28  # of a picture, before its bar

# Categories that a terminal may act on or that hide text: controls, formats (bidi overrides, zero
# width), surrogates (undecodable bytes), private use, line and paragraph separators.
UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str) -> str:
    r"""Return ``text`` on one line, with everything that is not plainly visible escaped.

    A newline becomes ``\n``, an escape character ``\x1b``, an undecodable byte ``\xff``.
    """
    return "".join(_escape(c) if unicodedata.category(c) in UNPRINTABLE else c for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as os.fsdecode keeps it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def shorten(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` characters, its middle replaced by an ellipsis."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return text[:head] + "…" + text[len(text) - (width - 1 - head) :]


@contextmanager
def beside_bars() -> Iterator[None]:
    """Take bars away from the terminal while a line is written to it."""
    tqdm = sys.modules.get("tqdm.std")
    if tqdm is None:
        yield
        return
    with tqdm.tqdm.external_write_mode():
        yield


class _LogLines(logging.Handler):
    """The library's log as lines on stderr."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO if console.verbose else logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.note(f"upscale: {record.getMessage()}")


@dataclass(frozen=True)
class Console:
    """Writes to stderr."""

    quiet: bool = False  # only errors
    verbose: bool = False  # details too

    def error(self, message: str) -> None:
        """Write ``upscale: error: message`` on one line."""
        self._write(f"upscale: error: {printable(message)}")

    def warn(self, message: str) -> None:
        """Write a warning, unless quiet."""
        if not self.quiet:
            self._write(f"upscale: warning: {printable(message)}")

    def note(self, message: str) -> None:
        """Write a line, unless quiet."""
        if not self.quiet:
            self._write(printable(message))

    def detail(self, message: str) -> None:
        """Write a line when verbose."""
        if self.verbose and not self.quiet:
            self._write(printable(message))

    def show_log(self) -> None:
        """From now on, write what the library logs."""
        handler = _LogLines(self)
        logger = logging.getLogger("upscale")
        logger.handlers = [handler]
        logger.setLevel(handler.level)
        logger.propagate = False

    @staticmethod
    def _write(line: str) -> None:
        stream = sys.stderr
        if stream is None:
            return
        try:
            encoding = stream.encoding or "utf-8"
            with beside_bars():
                stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
                stream.flush()
        except (BrokenPipeError, ValueError):  # nobody reads stderr any more
            return

    @staticmethod
    def is_terminal() -> bool:
        """Whether stderr is a terminal on which a progress bar can be drawn."""
        stream = sys.stderr
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


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


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    value: Callable[[Any], str] | None = None  # the cell of a row; None: the row is a sequence
    align: Literal["left", "right"] = "left"
    rank: int = 0  # 0 is always shown; where the terminal is narrow, the highest goes first
    wrap: bool = False  # its text may go on in further lines


def show_json(rows: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line."""
    for row in rows:
        print(json.dumps(row))


def show_table(columns: Sequence[Column], found: Sequence[Any]) -> None:
    """A table that fits the terminal: less important columns go first, then text wraps.

    Into a pipe or a file go all columns, each row on one line (unless COLUMNS is set). A column
    that is empty throughout is left out.
    """
    rows = [[c.value(f) if c.value else f[k] for k, c in enumerate(columns)] for f in found]
    known = [k for k in range(len(columns)) if not rows or any(row[k] for row in rows)]
    columns, cells = [columns[k] for k in known], [[printable(r[k]) for k in known] for r in rows]
    if (sys.stdout is not None and sys.stdout.isatty()) or "COLUMNS" in os.environ:
        _show_fitting(columns, cells, max(20, shutil.get_terminal_size().columns))
    else:
        _show_plain(columns, cells)


def _show_plain(columns: Sequence[Column], rows: list[list[str]]) -> None:
    lines = [[column.title for column in columns], *rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        padded = (
            cell.rjust(width) if column.align == "right" else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        )
        print("  ".join(padded).rstrip())


def _show_fitting(columns: Sequence[Column], rows: list[list[str]], width: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console as Terminal
    from rich.table import Table
    from rich.text import Text

    kept = fitting(columns, rows, width)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in (columns[index] for index in kept):
        table.add_column(
            column.title, justify=column.align, no_wrap=not column.wrap, overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(row[index]) for index in kept))
    Terminal(width=width, highlight=False).print(table)


def fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Which columns are shown in ``width`` characters: all of rank 0, of the others what fits."""
    widths = []
    for k, column in enumerate(columns):
        longest = max((len(row[k]) for row in rows), default=0)
        longest = min(longest, 24) if column.wrap else longest
        widths.append(max(longest, len(column.title)) + 2)
    kept = list(range(len(columns)))
    while sum(widths[k] for k in kept) > width:
        last = max(columns[k].rank for k in kept)
        if last == 0:
            break
        kept.remove(max(k for k in kept if columns[k].rank == last))
    return kept


def size_text(count: int) -> str:
    """``count`` bytes for people: ``67.0 MB``; a dash for 0, which is unknown."""
    if not count:
        return "–"
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def count_text(count: int) -> str:
    """A number of parameters for people: ``16.7 M``; a dash for 0, which is unknown."""
    if not count:
        return "–"
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"
