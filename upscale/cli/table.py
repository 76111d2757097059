"""Tables and JSON lines on stdout, for the commands whose answer is a list."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from upscale.cli.console import printable


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
    from rich.console import Console
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
    Console(width=width, highlight=False).print(table)


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
