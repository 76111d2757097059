"""The reference of the command line is the one that the commands give now."""

from __future__ import annotations

from pathlib import Path

from tests.tools.reference import reference
from upscale.cli.commands import COMMANDS

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"


def test_reference_is_current() -> None:
    text = reference()
    assert text == DOCUMENT.read_text("utf-8"), (
        "docs/cli.md is old: python -m tests.tools.reference > docs/cli.md"
    )


def test_reference_is_whole() -> None:
    text = reference()
    for name in COMMANDS:
        assert name == "run" or f"## `upscale {name}`" in text
