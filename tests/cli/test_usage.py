"""What is easily meant otherwise: it is refused in one line, and the remedy that it names works."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_bad_input import refused, snapshot
from tests.conftest import Finished, png
from upscale.image import probe

Cli = Callable[..., Finished]
Command = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_and_a_format_that_disagree(cli: Cli, tiny: str, here: Path) -> None:
    (here / "in.png").write_bytes(png())
    for output in ("o8.png", "{stem}_2.png"):
        refused(cli("in.png", "-m", tiny, "-f", "jpg", "-o", output), 2, "png", "-f", "jpg")
    assert sorted(snapshot(here)) == ["in.png"]
    for output in ("o.jpeg", "o.JPG", "o.dat", "{stem}_2.{ext}"):
        assert cli("in.png", "-m", tiny, "-f", "jpg", "-o", output).code == 0
    written = set(snapshot(here)) - {"in.png"}
    assert written == {"o.jpeg", "o.JPG", "o.dat", "in_2.jpg"}
    assert {probe(here / name).format for name in written} == {"jpeg"}


def test_a_picture_for_several(cli: Cli, tiny: str, here: Path) -> None:
    for name in ("a.png", "b.jpg", "in/c.png"):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_bytes(png())
    for inputs in (("a.png", "b.jpg"), ("in",)):
        refused(cli(*inputs, "-m", tiny, "-o", "one.png"), 2, "one.png", "-o one.png/")
        assert not (here / "one.png").exists()
        assert cli(*inputs, "-m", tiny, "-o", "one.png/").code == 0
        assert cli(*inputs, "-m", tiny, "-o", "one.png").code == 0, "it is a folder by now"
        shutil.rmtree(here / "one.png")
    assert cli("a.png", "b.jpg", "-m", tiny, "-o", "v1.2").code == 0
    assert sorted(p.name for p in (here / "v1.2").iterdir() if p.is_file()) == ["a.png", "b.jpg"]
