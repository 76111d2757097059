"""Figures against values worked by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from upscale.compare import Figures, figures, mean_colour, written
from upscale.evaluate.pictures import to_pixels, to_tensor
from upscale.metrics import psnr, ssim
from upscale.resample import resize_uint8


def gray(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[..., None], 3, 2)


def test_mean_colour() -> None:
    x = np.zeros((2, 2, 3), np.uint8)
    x[0, :, 0], x[:, 0, 1], x[..., 2] = 100, 50, 7
    assert mean_colour(x) == (50.0, 25.0, 7.0)


def test_figures_of_bicubic(photo: np.ndarray) -> None:
    hr = photo[:60, :60]
    lr = to_pixels(resize_uint8(to_tensor(hr), (15, 15))).astype(np.uint8)
    sr = to_pixels(resize_uint8(to_tensor(lr), (60, 60))).astype(np.uint8)
    got = figures(sr, lr, hr=hr)
    a, b = to_tensor(sr), to_tensor(hr)
    assert got.psnr_y == pytest.approx(psnr(a, b, crop_border=4))
    assert got.ssim_y == pytest.approx(ssim(a, b, crop_border=4))
    small = resize_uint8(a, (15, 15))
    assert got.lr_consistency == pytest.approx(psnr(small, to_tensor(lr), crop_border=1))
    assert figures(sr, lr, cut=True).lr_consistency == pytest.approx(
        psnr(small, to_tensor(lr), crop_border=2)
    )
    assert got.mean_gradient < figures(hr, lr).mean_gradient
    assert got.colour_shift < 0.5


def test_colour_shift_is_the_largest_of_the_channels() -> None:
    lr = np.full((4, 4, 3), 100, np.uint8)
    sr = np.tile(np.uint8([101, 97, 100]), (16, 16, 1))
    got = figures(sr, lr)
    assert got.colour_shift == 3
    assert got.mean_colour == (101, 97, 100)


def test_what_is_too_small_has_no_figure() -> None:
    lr = np.zeros((2, 2, 3), np.uint8)
    sr = np.zeros((8, 8, 3), np.uint8)
    got = figures(sr, lr, hr=sr)
    assert (got.lr_consistency, got.psnr_y, got.ssim_y) == (None, None, None)
    larger = figures(
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((4, 4, 3), np.uint8),
        hr=sr.repeat(2, 0).repeat(2, 1),
    )
    assert (larger.psnr_y, larger.ssim_y) == (float("inf"), None)


def test_json_and_words() -> None:
    got = Figures(1.23456, (1.0, 2.0, 3.0), 0.5, float("inf"), 30.123456, None)
    assert json.loads(json.dumps(got.as_dict(), allow_nan=False)) == {
        "mean_gradient": 1.2346,
        "mean_colour": [1.0, 2.0, 3.0],
        "colour_shift": 0.5,
        "lr_consistency": None,
        "psnr_y": 30.1235,
        "ssim_y": None,
    }
    assert [written(v, 2) for v in (None, 1.0, float("inf"))] == ["", "1.00", "equal"]
