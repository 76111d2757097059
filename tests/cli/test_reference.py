"""The reference of the command line is the one that the commands give now."""

from __future__ import annotations

from pathlib import Path

from upscale.cli.commands import COMMANDS
from upscale.cli.reference import reference

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"


def test_reference_is_current() -> None:
    text = reference()
    assert text == DOCUMENT.read_text("utf-8"), (
        "docs/cli.md is old: python -m upscale.cli.reference > docs/cli.md"
    )


def test_reference_is_whole() -> None:
    text = reference()
    for name in COMMANDS:
        assert name == "run" or f"## `upscale {name}`" in text
