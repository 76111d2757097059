"""Rows of ``upscale bench --json`` as the tables of ``docs/benchmarks.md``.

``upscale bench … --json > rows.ndjson; python -m tests.tools.bench_table rows.ndjson [KEY…]``

One table for each number of threads, a line for each network and size, a column for each back end
and precision: milliseconds, the ratio to the plain form, which form ran; or the values of the keys.
"""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any


def main(file: str, *keys: str) -> None:
    rows = [json.loads(line) for line in Path(file).read_text("utf-8").splitlines()]
    rows.sort(key=lambda row: row["threads"])  # stable: the order of the run stays
    for threads, group in groupby(rows, lambda row: row["threads"]):
        print(f"{threads} thread{'s' * (threads > 1)}:\n")
        print("\n".join(table(list(group), keys)), end="\n\n")


def table(rows: list[dict[str, Any]], keys: tuple[str, ...]) -> list[str]:
    """The lines of a table; what did not run is a dash."""
    cells = {(place(row), column(row)): cell(row, keys) for row in rows}
    columns = list(dict.fromkeys(map(column, rows)))
    lines = ["| network, input | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for where in dict.fromkeys(map(place, rows)):
        found = [cells.get((where, name), "–") for name in columns]
        lines.append(f"| {where} | " + " | ".join(found) + " |")
    return lines


def place(row: dict[str, Any]) -> str:
    width, height = row["lr_width"], row["lr_height"]
    return f"{row['model']}, " + (f"{width}²" if width == height else f"{width} x {height}")


def column(row: dict[str, Any]) -> str:
    version = "" if row["backend"] in ("plain", "upscale") else f" {row['form']}"
    return f"`{row['backend']}`{version} {row['dtype']}"


def cell(row: dict[str, Any], keys: tuple[str, ...]) -> str:
    if keys:
        return ", ".join(f"{row[key]:{'.0f' if row[key] >= 1000 else '.3g'}}" for key in keys)
    form = f", {row['form']}" if row["backend"] == "upscale" else ""
    return f"{row['seconds_median'] * 1e3:.0f} (x{row['ratio_to_reference']:.2f}{form})"


if __name__ == "__main__":
    main(*sys.argv[1:])
