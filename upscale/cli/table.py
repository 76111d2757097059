"""Tables on stdout: as wide as they need, names never acting on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from upscale.cli.console import printable


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, names: int, title: str = ""
) -> None:
    """Print rows of cells; columns that are empty throughout are left out.

    Where a terminal is too narrow its own line breaks show, and no cell is cut.

    Args:
        headings: One for each column.
        rows: As many cells each.
        names: So many columns from the left are words and stand left, the others numbers.
        title: Above the table.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    known = [k for k in range(len(headings)) if any(row[k] for row in rows)]
    for k in known:
        table.add_column(headings[k], justify="left" if k < names else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(row[k])) for k in known))
    console = Console(file=sys.stdout, highlight=False, emoji=False)
    needed = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    console.width = max(needed, console.width if sys.stdout.isatty() else needed)
    console.print(table)
