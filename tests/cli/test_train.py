"""``upscale train``: recipes listed, run, resumed, released; wrong use in one line."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.tiny import recipe, write_pictures
from upscale import checkpoints
from upscale.cli import status
from upscale.training import recipes


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    made = recipe(name="esrgan-tiny-psnr-x2", steps=4)
    monkeypatch.setitem(recipes.RECIPES, made.name, made)
    return made.name


def test_list_names_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["train", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in recipes.RECIPES)


def test_train_resume_release(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pictures(tmp_path / "data", 2, 80, 90)
    out, weights = tmp_path / "run", tmp_path / "weights"
    common = ["train", tiny, "--data", str(data), "-o", str(out), "--device", "cpu"]
    assert status([*common, "--minutes", "0.0001"]) == 0
    assert "stopped at step 1 of 4; go on with --resume" in capsys.readouterr().err
    rest = ["--resume", "--watch", str(data), "--release", str(weights), "--data-note", "made"]
    assert status([*common, *rest]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{tiny}.safetensors: 4 steps" in captured.err
    assert (out / "curve.png").exists()
    assert checkpoints.load(weights / f"{tiny}.safetensors").metadata.data == "made"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train"], 2, "name a recipe"),
        (["train", "nothing", "--data", "."], 2, "no recipe 'nothing'; there are: "),
        (["train", "TINY", "--data", "nowhere"], 1, "nowhere: no such folder"),
        (["train", "TINY", "--data", ".", "--minutes", "-1"], 2, "--minutes -1"),
        (
            ["train", "TINY", "--data", ".", "--start-from", "none.safetensors"],
            2,
            "none.safetensors",
        ),
        (["train", "TINY", "--data", ".", "--resume"], 2, "no checkpoint to resume"),
        (["train", "esrgan-gan-x4", "--data", ".", "--start-from", ""], 2, "--perceptual-weights"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str],
    code: int,
    message: str,
    tiny: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status([tiny if a == "TINY" else a for a in arguments]) == code
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("upscale: error: ")
    assert err.count("\n") == 1


def test_a_run_that_is_there_is_not_begun_anew(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pictures(tmp_path / "data", 1, 80, 90)
    command = ["train", tiny, "--data", str(data), "-o", str(tmp_path / "run"), "-q"]
    assert status(command) == 0
    assert status(command) == 1
    assert "--resume" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals of POSIX")
def test_a_signal_leaves_a_checkpoint(
    tiny: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(recipes.RECIPES, tiny, replace(recipes.RECIPES[tiny], steps=100_000))
    data = write_pictures(tmp_path / "data", 1, 80, 90)
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def terminate() -> None:
        while not (tmp_path / "run" / "log.ndjson").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate, daemon=True).start()
    try:
        command = ["train", tiny, "--data", str(data), "-o", str(tmp_path / "run")]
        assert status([*command, "--device", "cpu"]) == 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert "go on with --resume" in capsys.readouterr().err
    assert (tmp_path / "run" / "checkpoint.pt").exists()
