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


def test_a_number_after_quiet(cli: Cli, tiny: str, here: Path) -> None:
    (here / "a.png").write_bytes(png())
    for arguments in (("-q", "90", "a.png"), ("a.png", "-q", "90"), ("run", "a.png", "-q", "90")):
        refused(cli(*arguments, "-m", tiny), 2, "90", "did you mean --quality 90?")
    assert sorted(snapshot(here)) == ["a.png"]
    assert cli("a.png", "-m", tiny, "--quality", "90", "-f", "jpg").code == 0
    (here / "90").write_bytes(png())
    assert cli("-q", "90", "-m", tiny).code == 0, "a file of that name is a picture"
    assert (here / "90_tiny_x2.png").exists()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["help"], "--help"),
        (["version"], "--version"),
        (["evalute", "photos"], "evaluate"),
        (["Train"], "train"),
        (["docter"], "doctor"),
        (["model"], "models"),
        (["pull", "esrgan"], "weights pull"),
    ],
)
def test_a_mistyped_command(cli: Cli, here: Path, typed: list[str], meant: str) -> None:
    refused(cli(*typed), 2, typed[0], f"did you mean 'upscale {meant}'?")
    words = meant.split() if meant.startswith("--") else [*meant.split(), "--help"]
    assert cli(*words).code == 0


def test_a_picture_named_nearly_as_a_command(cli: Cli, tiny: str, here: Path) -> None:
    (here / "trian").write_bytes(png())
    assert cli("trian", "-m", tiny).code == 0
    (here / "trian").unlink()
    refused(cli("run", "trian", "-m", tiny), 1, "trian", "no such file")
    refused(cli("photograph", "-m", tiny), 1, "photograph", "no such file")


def test_nothing_is_started_by_a_mistyped_command(command: Command, here: Path) -> None:
    (here / "photo.png").write_bytes(png())
    for arguments in (("evalute", "photo.png"), ("photo.png", "-q", "90")):
        process = command(*arguments, cwd=here)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err.count(b"\n")) == (2, b"", 1)
        assert b"did you mean" in err
    assert sorted(snapshot(here)) == ["photo.png"]
