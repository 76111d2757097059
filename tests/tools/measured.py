"""Parts of ``docs/formats.md`` that tools measure: each stands between two marks with its name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "formats.md"


def documented(name: str) -> str:
    """The part as it stands in the docs."""
    return _divided(name)[1]


def main(name: str, table: Callable[[], str]) -> None:
    """Write a part into the docs with ``--write``, else to stdout."""
    if "--write" in sys.argv:
        before, _, after = _divided(name)
        DOCS.write_text(before + table() + after, encoding="utf-8")
    else:
        sys.stdout.write(table())


def _divided(name: str) -> tuple[str, str, str]:
    """The docs before, within and after a part; the marks belong to what is outside."""
    begin, end = (f"<!-- {name}: {place} -->\n" for place in ("begin", "end"))
    before, rest = DOCS.read_text(encoding="utf-8").split(begin)
    within, after = rest.split(end)
    return before + begin, within, end + after
