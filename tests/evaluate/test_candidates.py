"""Loaded models as candidates: names, alpha, the route of Y, and what the options mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from upscale.errors import CheckpointError, UsageError
from upscale.evaluate import (
    combinations,
    load_candidate,
    make_pair,
    parse_alphas,
    parse_scales,
    score,
)
from upscale.settings import Settings

CPU = "cpu"


def test_every_model_at_every_scale_and_pairs_at_every_alpha(known_models: Path) -> None:
    assert combinations(["known-srcnn", "known-pair", "bicubic"], [2, 4], [0.0, 1.0]) == [
        Settings(model="known-srcnn", scale=2),
        Settings(model="known-srcnn", scale=4),
        Settings(model="known-pair", scale=2, alpha=0.0),
        Settings(model="known-pair", scale=2, alpha=1.0),
        Settings(model="known-pair", scale=4, alpha=0.0),
        Settings(model="known-pair", scale=4, alpha=1.0),
        Settings(model="bicubic", scale=2),
        Settings(model="bicubic", scale=4),
    ]
    assert combinations(["known-pair"]) == [Settings(model="known-pair")]


def test_combinations_that_cannot_be(known_models: Path) -> None:
    with pytest.raises(UsageError, match="--alpha does not apply to known-srcnn"):
        combinations(["known-srcnn"], [2], [0.5])
    with pytest.raises(UsageError, match="outside"):
        combinations(["known-pair"], [4], [1.5])
    with pytest.raises(UsageError, match="bicubic has no scale"):
        combinations(["bicubic"])
    with pytest.raises(CheckpointError, match="nothing-like-it"):
        combinations(["nothing-like-it"])


@pytest.mark.parametrize(("alpha", "gray"), [(0.0, 64), (0.5, 128), (1.0, 191), (None, 166)])
def test_a_pair_is_interpolated(known_models: Path, alpha: float | None, gray: int) -> None:
    candidate = load_candidate(Settings(model="known-pair", alpha=alpha), CPU)
    assert (candidate.scale, candidate.takes) == (4, "rgb")
    assert candidate.alpha == (0.8 if alpha is None else alpha)
    got = candidate.image(np.zeros((3, 5, 3), np.uint8))
    assert got.shape == (12, 20, 3)
    assert got.dtype == np.uint8
    assert np.unique(got).tolist() == [gray]
    names = {0.0: {"known-psnr-x4"}, 1.0: {"known-gan-x4"}}
    assert set(candidate.weights) >= names.get(alpha or 0.5, set())
    assert all(len(sha256) == 64 for sha256 in candidate.weights.values())


def test_luma_networks_get_y_itself(known_models: Path) -> None:
    candidate = load_candidate(Settings(model="known-srcnn"), CPU)
    assert candidate.scale == 2
    assert list(candidate.weights) == ["known-srcnn-x2"]
    assert candidate.alpha is None
    assert candidate.takes == "y"
    y = torch.rand(1, 1, 6, 7, generator=torch.Generator().manual_seed(0))
    assert candidate.tensor(y).shape == (1, 1, 12, 14)


@pytest.mark.parametrize("protocol", ["edsr", "srcnn"])
def test_a_network_that_is_bicubic_scores_as_bicubic(
    known_models: Path, photo: np.ndarray, protocol: str
) -> None:
    candidate = load_candidate(Settings(model="known-srcnn"), CPU)
    pair = make_pair(photo, 2, protocol, y_only=True)
    got = score(candidate, pair, protocol)
    tolerance = 0.02 if protocol == "edsr" else 0.002  # edsr: ours rounds once, the table twice
    assert got.psnr_y == pytest.approx(got.bicubic_psnr_y, abs=tolerance)
    assert got.ssim_y == pytest.approx(got.bicubic_ssim_y, abs=0.0005)
    assert got.psnr_y != float("inf")


def test_beyond_its_scale_a_luma_network_runs_on_the_picture(
    known_models: Path, photo: np.ndarray
) -> None:
    candidate = load_candidate(Settings(model="known-srcnn", scale=3), CPU)
    assert (candidate.scale, candidate.takes) == (3, "nothing")
    got = score(candidate, make_pair(photo, 3, "srcnn"), "srcnn")
    assert got.psnr_y == pytest.approx(got.bicubic_psnr_y, abs=2)


def test_alphas_as_they_are_written() -> None:
    assert parse_alphas("0.8") == [0.8]
    assert parse_alphas("0, 0.5,1") == [0, 0.5, 1]
    assert parse_alphas("0:1:0.2") == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert parse_alphas("1:0:-0.5") == [1, 0.5, 0]
    assert parse_alphas("0.3:0.3:1") == [0.3]


@pytest.mark.parametrize(
    "text",
    ["", "x", "0:1", "0:1:0", "0:1:0.3", "1:0:0.2", "0:1:1e-9", "2", "nan", "0,-1", "0:inf:1"],
)
def test_alphas_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_alphas(text)
    assert "\n" not in str(caught.value)


def test_scales_as_they_are_written() -> None:
    assert parse_scales("4") == [4]
    assert parse_scales("2, 3,4") == [2, 3, 4]
    for text in ("", "0", "1.5", "x2", "-2", "2,,3", "65"):
        with pytest.raises(UsageError):
            parse_scales(text)
