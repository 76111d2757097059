"""PSNR, SSIM and PSNR-B against values worked by hand and against scikit-image."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from upscale.errors import DataError
from upscale.metrics import luma, mean_gradient, psnr, ssim

Metric = Callable[..., float]


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """A photograph (H, W, 3) uint8 and a noisy copy."""
    hr = data.astronaut()[40:190, 150:330]
    noise = np.random.default_rng(0).normal(0, 9, hr.shape)
    return np.clip(np.rint(hr + noise), 0, 255).astype(np.uint8), hr


def nchw(x: np.ndarray) -> np.ndarray:
    return x.transpose(2, 0, 1)[None] if x.ndim == 3 else x[None, None]


def constant(*rgb: float, size: int = 16) -> torch.Tensor:
    return torch.tensor(rgb).view(1, -1, 1, 1).expand(1, len(rgb), size, size)


# --- by hand ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rgb", "y"),
    [
        ((0, 0, 0), 16.0),
        ((255, 255, 255), 235.0),
        ((255, 0, 0), 81.481),
        ((0, 255, 0), 144.553),
        ((0, 0, 255), 40.966),
        ((51, 102, 204), 16 + (65.481 * 51 + 128.553 * 102 + 24.966 * 204) / 255),
    ],
)
def test_luma_is_studio_range(rgb: tuple[int, int, int], y: float) -> None:
    got = luma(constant(*rgb))
    assert got.dtype == torch.float64
    assert got.shape == (1, 1, 16, 16)
    assert got.unique().tolist() == pytest.approx([y], abs=1e-9)


def test_psnr_of_a_constant_difference() -> None:
    # MSE 25: 10 log10(65025 / 25)
    gray = psnr(constant(100.0), constant(105.0))
    assert gray == pytest.approx(34.15140352, abs=1e-7)
    rgb = psnr(constant(100.0, 100, 100), constant(105.0, 105, 105), luma=False)
    assert rgb == pytest.approx(gray, abs=1e-9)


def test_studio_luma_lies_1_32_decibel_above_rgb_for_gray_differences() -> None:
    a, b = constant(100.0, 100, 100), constant(105.0, 105, 105)
    assert psnr(a, b) - psnr(a, b, luma=False) == pytest.approx(
        20 * math.log10(255 / 219), abs=1e-9
    )


def test_psnr_of_one_wrong_pixel() -> None:
    sr = torch.zeros(1, 1, 4, 4)
    sr[0, 0, 1, 2] = 8  # MSE 64 / 16 = 4
    assert psnr(sr, torch.zeros(1, 1, 4, 4)) == pytest.approx(10 * math.log10(255**2 / 4), abs=1e-9)


def test_mean_over_pictures_is_of_decibels() -> None:
    hr = torch.zeros(2, 1, 4, 4)
    sr = hr.clone()
    sr[0] += 1
    sr[1] += 10
    assert psnr(sr, hr) == pytest.approx(20 * math.log10(255) - 10, abs=1e-9)  # (0 + 20) / 2


def test_equal_pictures() -> None:
    x = torch.arange(3 * 24 * 20).view(1, 3, 24, 20) % 256
    assert psnr(x, x) == math.inf
    assert ssim(x, x) == pytest.approx(1.0, abs=1e-12)


def test_crop_border_leaves_the_frame_out() -> None:
    hr = torch.zeros(1, 1, 20, 24)
    sr = torch.full_like(hr, 200.0)
    sr[:, :, 3:-3, 3:-3] = 1
    assert psnr(sr, hr, crop_border=3) == pytest.approx(20 * math.log10(255), abs=1e-9)
    assert psnr(sr, hr, crop_border=2) < 20


def test_ssim_of_two_constants() -> None:
    # Only the luminance term is left: (2 * 50 * 100 + c1) / (50² + 100² + c1), c1 = 2.55²
    expected = (10000 + 6.5025) / (12500 + 6.5025)
    assert ssim(constant(50.0), constant(100.0)) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_one_window_by_hand() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 256, (2, 11, 11)).astype(float)
    t = np.arange(-5, 6)
    w = np.exp(-(t[:, None] ** 2 + t[None] ** 2) / 4.5)
    w /= w.sum()
    ma, mb = (w * a).sum(), (w * b).sum()
    va, vb, cov = (
        (w * (a - ma) ** 2).sum(),
        (w * (b - mb) ** 2).sum(),
        (w * (a - ma) * (b - mb)).sum(),
    )
    c1, c2 = 2.55**2, 7.65**2
    expected = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    assert ssim(nchw(a), nchw(b)) == pytest.approx(expected, abs=1e-10)


# --- against scikit-image -----------------------------------------------------------------------


@pytest.mark.parametrize("border", [0, 4])
def test_psnr_against_scikit_image(pair: tuple[np.ndarray, np.ndarray], border: int) -> None:
    sr, hr = pair
    inner = slice(border, -border or None)
    got_y = psnr(nchw(sr), nchw(hr), crop_border=border)
    want_y = peak_signal_noise_ratio(
        rgb2ycbcr(hr)[inner, inner, 0], rgb2ycbcr(sr)[inner, inner, 0], data_range=255
    )
    assert got_y == pytest.approx(want_y, abs=1e-6)
    got_rgb = psnr(nchw(sr), nchw(hr), crop_border=border, luma=False)
    want_rgb = peak_signal_noise_ratio(hr[inner, inner], sr[inner, inner], data_range=255)
    assert got_rgb == pytest.approx(want_rgb, abs=1e-9)


@pytest.mark.parametrize("border", [0, 3])
def test_ssim_against_scikit_image(pair: tuple[np.ndarray, np.ndarray], border: int) -> None:
    sr, hr = pair
    inner = slice(border, -border or None)
    options = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 255,
    }
    want_y = structural_similarity(
        rgb2ycbcr(hr)[inner, inner, 0], rgb2ycbcr(sr)[inner, inner, 0], **options
    )
    assert ssim(nchw(sr), nchw(hr), crop_border=border) == pytest.approx(want_y, abs=1e-7)
    want_rgb = structural_similarity(
        hr[inner, inner].astype(float), sr[inner, inner].astype(float), channel_axis=2, **options
    )
    got_rgb = ssim(nchw(sr), nchw(hr), crop_border=border, luma=False)
    assert got_rgb == pytest.approx(want_rgb, abs=1e-7)


# --- properties ---------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3]), st.sampled_from([psnr, ssim]))
def test_range_follows_peak(seed: int, channels: int, metric: Metric) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 256, (2, 1, channels, 14, 17)).astype(float)
    assert metric(a / 255, b / 255, peak=1.0) == pytest.approx(metric(a, b), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([psnr, ssim]))
def test_symmetric_in_its_arguments_and_under_flips(seed: int, metric: Metric) -> None:
    a, b = np.random.default_rng(seed).integers(0, 256, (2, 1, 3, 13, 15)).astype(float)
    value = metric(a, b)
    assert metric(b, a) == pytest.approx(value, abs=1e-9)
    assert metric(a[..., ::-1].copy(), b[..., ::-1].copy()) == pytest.approx(value, abs=1e-9)


def test_integer_and_float_tensors_and_arrays_agree(pair: tuple[np.ndarray, np.ndarray]) -> None:
    sr, hr = (nchw(x) for x in pair)
    values = [
        psnr(sr, hr),
        psnr(torch.from_numpy(sr), torch.from_numpy(hr)),
        psnr(torch.from_numpy(sr).float(), hr.astype(np.float32)),
    ]
    assert max(values) - min(values) < 1e-9


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("sr", "hr", "border", "words"),
    [
        (torch.zeros(1, 3, 20, 20), torch.zeros(1, 3, 20, 21), 0, "20, 21"),
        (torch.zeros(20, 20, 3), torch.zeros(20, 20, 3), 0, "channels first"),
        (torch.zeros(1, 4, 20, 20), torch.zeros(1, 4, 20, 20), 0, "1 or 3"),
        (torch.zeros(1, 3, 20, 20), torch.zeros(1, 3, 20, 20), 10, "crop_border=10"),
        (torch.zeros(1, 3, 20, 20), torch.zeros(1, 3, 20, 20), -1, "crop_border=-1"),
        (torch.zeros(0, 3, 20, 20), torch.zeros(0, 3, 20, 20), 0, "0 pictures"),
    ],
)
def test_bad_input_is_named(
    metric: Metric, sr: torch.Tensor, hr: torch.Tensor, border: int, words: str
) -> None:
    with pytest.raises(DataError) as caught:
        metric(sr, hr, crop_border=border)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ssim_names_the_smallest_size() -> None:
    with pytest.raises(DataError, match="11x11"):
        ssim(torch.zeros(1, 1, 10, 40), torch.zeros(1, 1, 10, 40))


# --- gradient ------------------------------------------------------------------------------------


def test_gradient_of_ramps() -> None:
    y, x = np.mgrid[:30, :20]
    for ramp, slope in ((3 * x, 3), (4 * y, 4), (3 * x + 4 * y, 5)):
        assert mean_gradient(ramp[None, None]) == pytest.approx(slope, abs=1e-9)
        rgb = np.repeat(ramp[None, None], 3, 1)
        assert mean_gradient(rgb) == pytest.approx(slope * 219 / 255, abs=1e-9)


def test_gradient_of_colour_weighs_as_luma_does() -> None:
    x = np.zeros((1, 3, 4, 2))
    x[:, 1, :, 1] = 255  # black to green
    assert mean_gradient(x) == pytest.approx(128.553, abs=1e-9)


def test_gradient_leaves_the_border_out() -> None:
    x = np.zeros((1, 1, 12, 14))
    x[..., 0], x[..., 3, 5] = 100, 8
    want = (8 + 8 + 8 * 2**0.5) / (9 * 7)  # one bright pixel: to it, down to it, away from it
    assert mean_gradient(x, crop_border=2) == pytest.approx(want)
    assert mean_gradient(x) > 5


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1)])
def test_a_line_has_no_gradient(shape: tuple[int, int]) -> None:
    assert mean_gradient(np.full((1, 3, *shape), 7.0)) == 0.0
