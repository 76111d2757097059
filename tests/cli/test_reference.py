"""The reference of the command line is the one that the commands give now."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Finished, draw
from tests.tools.reference import HEAD, reference
from upscale.cli.commands import COMMANDS
from upscale.image import Image, encode

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_reference_is_current() -> None:
    text = reference()
    assert text == DOCUMENT.read_text("utf-8"), (
        "docs/cli.md is old: python -m tests.tools.reference > docs/cli.md"
    )


def test_reference_is_whole() -> None:
    text = reference()
    for name in COMMANDS:
        assert name == "run" or f"## `upscale {name}`" in text


def test_the_recipes_run(cli: Callable[..., Finished], here: Path) -> None:
    """As they are printed, but for the one that is a pipe."""
    for name in ("photo.jpg", "scan.png", "noisy.jpg", "texture.png", "photos/a/b.jpg", "in/c.png"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(encode(Image(draw(16, 16)), name.rpartition(".")[2]))
    block = HEAD.partition("```sh\n")[2].partition("```")[0]
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert len(lines) == 10
    for words in lines:
        if words[0] == "upscale":
            done = cli(*words[1:])
            assert done.code == 0, (words, done.err)
    made = {"photo_esrgan_x4.jpg", "large.webp", "large", "out", "web", "map.png"}
    assert made <= {path.name for path in here.iterdir()}
