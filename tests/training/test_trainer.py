"""The loop: reproducible, resumable to the bit, never a broken checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.tiny import TINY, recipe, write_pictures
from upscale.errors import CheckpointError, DataError, OutputError
from upscale.training import trainer
from upscale.training.trainer import LogLine, RunSettings, build_network, rate_at, train


def differing(a: torch.nn.Module, b: torch.nn.Module) -> list[str]:
    other = b.state_dict()
    return [k for k, v in a.state_dict().items() if not torch.equal(v, other[k])]


@pytest.mark.parametrize("kind", list(TINY))
def test_resume_is_exact(kind: str, pictures: Path, tmp_path: Path) -> None:
    """Two runs of one seed, one of them stopped on its way, end in the same weights."""
    steps = 24 if kind == "esrgan" else 6
    settings = replace(TINY[kind], steps=steps)
    straight = train(settings, RunSettings(pictures, tmp_path / "straight"))
    assert (straight.step, straight.finished) == (steps, True)
    half = train(settings, RunSettings(pictures, tmp_path / "halves"), stop_at(steps // 2))
    assert (half.step, half.finished) == (steps // 2, False)
    resumed = train(settings, RunSettings(pictures, tmp_path / "halves", resume=True))
    assert resumed.step == steps
    assert differing(straight.network, resumed.network) == []


def stop_at(step: int):  # noqa: ANN201
    """A report that asks for the end after step ``step``, as the command does at a signal."""

    def report(progress: LogLine) -> bool:
        return progress.step == step - 1

    return report


def test_training_helps_and_is_logged(pictures: Path, tmp_path: Path) -> None:
    seen: list[LogLine] = []
    run = RunSettings(pictures, tmp_path / "run", watch=pictures, watch_every=10)
    outcome = train(replace(TINY["esrgan"], steps=30, ema=0.9), run, seen.append)
    curve = [p.psnr for p in seen if p.psnr is not None]
    print("dB:", curve)
    assert len(curve) == 3
    start = build_network(TINY["esrgan"])
    pairs = trainer.load_watched(pictures, 2)
    assert trainer.watch(outcome.network, pairs, torch.device("cpu")) == curve[-1]
    assert curve[-1] > trainer.watch(start, pairs, torch.device("cpu"))
    lines = [json.loads(line) for line in (tmp_path / "run" / trainer.LOG).read_text().splitlines()]
    assert [line["psnr"] for line in lines] == curve


def test_minutes_end_a_run_with_a_checkpoint(pictures: Path, tmp_path: Path) -> None:
    outcome = train(TINY["esrgan"], RunSettings(pictures, tmp_path, minutes=0.0))
    assert outcome.step == 1
    assert (tmp_path / trainer.CHECKPOINT).exists()


def test_no_folder_of_pictures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        train(TINY["esrgan"], RunSettings(tmp_path / "nowhere", tmp_path / "run"))


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        train(TINY["esrgan"], RunSettings(tmp_path / "empty", tmp_path / "run"))


def test_pictures_smaller_than_a_patch(tmp_path: Path) -> None:
    small = write_pictures(tmp_path / "small", 2, 30, 30)
    with pytest.raises(DataError, match="none of the 2 pictures is 48 pixels"):
        train(TINY["esrgan"], RunSettings(small, tmp_path / "run"))


def test_a_run_is_not_overwritten(pictures: Path, tmp_path: Path) -> None:
    train(recipe(steps=1), RunSettings(pictures, tmp_path))
    with pytest.raises(OutputError, match="--resume"):
        train(recipe(steps=1), RunSettings(pictures, tmp_path))


def test_resume_without_a_checkpoint(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint to resume"):
        train(recipe(), RunSettings(pictures, tmp_path, resume=True))


def test_resume_of_another_recipe(pictures: Path, tmp_path: Path) -> None:
    train(recipe(steps=1), RunSettings(pictures, tmp_path))
    with pytest.raises(CheckpointError, match="other settings"):
        train(recipe(steps=2), RunSettings(pictures, tmp_path, resume=True))


def test_a_damaged_checkpoint(pictures: Path, tmp_path: Path) -> None:
    train(recipe(steps=1), RunSettings(pictures, tmp_path))
    checkpoint = tmp_path / trainer.CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        train(recipe(steps=1), RunSettings(pictures, tmp_path, resume=True))


def test_a_full_disk_keeps_the_checkpoint_before(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(recipe(steps=4), RunSettings(pictures, tmp_path), stop_at(2))
    before = (tmp_path / trainer.CHECKPOINT).read_bytes()

    def full(state: object, file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainer.torch, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        train(recipe(steps=4), RunSettings(pictures, tmp_path, resume=True))
    assert (tmp_path / trainer.CHECKPOINT).read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [trainer.CHECKPOINT]


SLOW = """
import sys
from pathlib import Path
from tests.training.tiny import recipe
from upscale.training.trainer import RunSettings, train
def report(progress):
    print(progress.step, flush=True)
run = RunSettings(Path(sys.argv[1]), Path(sys.argv[2]), save_every=0.0)
train(recipe(steps=100000), run, report)
"""


@pytest.mark.slow
def test_sigkill_leaves_a_whole_checkpoint(pictures: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SLOW, str(pictures), str(tmp_path)]
    environment = dict(os.environ, PYTHONSAFEPATH="")  # it reads toys of the tests
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 8:
                time.sleep(0.013)
                process.kill()
                break
    state = torch.load(tmp_path / trainer.CHECKPOINT, weights_only=True)
    assert state["step"] >= 7
    outcome = train(
        recipe(steps=100000),
        RunSettings(pictures, tmp_path, resume=True),
        stop_at(state["step"] + 2),
    )
    assert outcome.step == state["step"] + 2


def test_schedules_by_hand() -> None:
    cosine = recipe(steps=100, warmup=0)
    assert rate_at(cosine, 0) == pytest.approx(1.0)
    assert rate_at(cosine, 50) == pytest.approx(0.51)
    assert rate_at(cosine, 100) == pytest.approx(0.02)
    halve = recipe(steps=100, warmup=0, schedule="halve", milestones=(0.25, 0.5))
    assert [rate_at(halve, s) for s in (24, 25, 50, 99)] == [1.0, 0.5, 0.25, 0.25]
    assert rate_at(recipe(steps=100, warmup=10, schedule="constant"), 4) == pytest.approx(0.5)


def test_start_from_weights_that_fit_in_part() -> None:
    other_scale = build_network(
        recipe(network=replace(TINY["swinir"].network, scale=3), architecture="swinir")
    )
    started = build_network(TINY["swinir"], dict(other_scale.state_dict()))
    assert torch.equal(started.conv_first.weight, other_scale.conv_first.weight)
    assert started.upsample[0].out_channels == 12
    with pytest.raises(CheckpointError, match="no tensor"):
        build_network(TINY["swinir"], {"other": torch.zeros(3)})
