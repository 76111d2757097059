"""``upscale info FILE...``: what a picture is, and the provenance written in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from upscale.cli.console import Column, Console, show_json, show_table
from upscale.errors import ImageError, reason

COLUMNS = (Column("property"), Column("value", wrap=True))


app = typer.Typer(add_completion=False)


@app.command()
def info(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="Pictures: files, URLs, or - for stdin.")
    ],
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object for each file, a line each.")
    ] = False,
) -> int:
    """Show what pictures are: size, depth, colour, profile, metadata, and how they were made.

    The record that upscale writes into its results is shown in full.
    """
    failed = 0
    for name in files:
        try:
            facts = {"input": name} | _facts(name)
        except ImageError as error:
            Console().error(f"{name}: {error}")
            failed = 1
            continue
        if json:
            show_json([facts])
        else:
            show_table(COLUMNS, list(_rows(facts)))
            print()
    return failed


def _facts(name: str) -> dict[str, Any]:
    from upscale import storage
    from upscale.image import describe

    if name == "-":
        if sys.stdin is None:
            raise ImageError("stdin is closed; pipe a picture into it")
        return describe(sys.stdin.buffer.read())
    try:
        return describe(storage.read(name)[0])
    except OSError as error:
        raise ImageError(reason(error)) from error


def _rows(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Property and value of everything that is there; a record inside gets dotted names."""
    for key, value in facts.items():
        if isinstance(value, dict):
            yield from _rows(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            if value:
                yield prefix + key, ", ".join(_text(v) for v in value)
        elif value not in (None, ""):
            yield prefix + key, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k}={v}" for k, v in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
