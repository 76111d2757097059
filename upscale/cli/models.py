"""``upscale models``: what can run now, and what can be fetched."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upscale.cli.console import Column, Console, count_text, show_json, show_table

if TYPE_CHECKING:
    from upscale.checkpoints import WeightsFile

app = typer.Typer(add_completion=False)


@app.command()
def models(
    installed: Annotated[
        bool, typer.Option("--installed", help="Only what runs now, without a download.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object for each set of weights, a line each.")
    ] = False,
) -> None:
    """List what --model takes: embedded and fetched weights, and those that can be fetched.

    Of a model's scales the nearest at or above the one asked for runs.
    """
    rows = catalogue(installed=installed)
    if json:
        show_json(rows)
        return
    show_table(COLUMNS, grouped(rows))
    if not installed:
        Console().note("Fetch what says pull: upscale weights pull MODEL")


def catalogue(*, installed: bool) -> list[dict[str, Any]]:
    """Bicubic, then a row for each set of weights: embedded, cached, and what can be fetched."""
    from upscale.checkpoints import WeightsFile, entries, official

    title, present = "No network: bicubic to any size, the baseline", entries()
    bicubic = _row(WeightsFile("bicubic", "", "", 0, "bicubic", 0, title=title))
    bicubic |= {"weights": None, "scale": None, "where": "built in"}
    rows = [bicubic, *map(_row, present)]
    if not installed:
        names = {entry.name for entry in present}
        rows += [_row(entry) for entry in official().values() if entry.name not in names]
    for group in grouped(rows):
        takes = _takes({row["role"] for row in group})
        for row in group:
            row["takes"] = takes
    return rows


def _takes(roles: set[str]) -> list[str]:
    """Options that a model with nets of these roles takes."""
    from upscale.checkpoints.index import CLEAN, REAL

    if not set(CLEAN) <= roles:
        return []
    return ["alpha", "denoise"] if set(REAL) <= roles else ["alpha"]


def grouped(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The rows by model, in the order in which models first occur; each by scale."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["model"], []).append(row)
    return [sorted(group, key=lambda row: row["scale"] or 0) for group in groups.values()]


def _row(entry: WeightsFile) -> dict[str, Any]:
    return {
        "model": entry.family or entry.name,
        "weights": entry.name,
        "architecture": entry.architecture,
        "scale": entry.scale,
        "role": entry.role,
        "bytes": entry.bytes or None,
        "license": entry.license,
        "title": entry.title,
        "where": "pull" if entry.origin == "published" else entry.origin,
        "parameters": entry.parameters or None,
        "scores": dict(entry.scores),
    }


def _scales(group: list[dict[str, Any]]) -> str:
    scales = sorted({row["scale"] for row in group})
    return " ".join(f"x{scale}" if scale else "any" for scale in scales)


def _scores(group: list[dict[str, Any]]) -> str:
    found = [row["scores"].get("set5_psnr_y") for row in group]
    return " ".join(f"{score:.2f}" for score in found if score is not None)


def _title(group: list[dict[str, Any]]) -> str:
    """The title of the first; of several, without the scale and the role, which differ."""
    title = str(group[0]["title"])
    if len(group) == 1:
        return title
    first, *others = re.sub(r" x\d+", "", title).split(", ")
    return ", ".join([first, *(part for part in others if not re.search("PSNR|GAN", part))])


COLUMNS = (  # of the rows of one model
    Column("model", lambda g: g[0]["model"]),
    Column("scales", _scales),
    Column("where", lambda g: ", ".join(dict.fromkeys(row["where"] for row in g))),
    Column("takes", lambda g: ", ".join(g[0]["takes"]), rank=3),
    Column("parameters", lambda g: count_text(max(r["parameters"] or 0 for r in g)), "right", 4),
    Column("Set5 PSNR", _scores, rank=5),
    Column("licence", lambda g: g[0]["license"], rank=2, wrap=True),
    Column("what it is", _title, rank=1, wrap=True),
)
