"""The protocols by another route: PyTorch's bicubic and scikit-image's metrics."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import data
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from upscale.errors import DataError
from upscale.evaluate import Baseline, evaluate, find_sets, make_pair, score

SET5 = os.environ.get("UPSCALE_SET5", "")


def photo() -> np.ndarray:
    """(125, 130, 3) uint8; no side is a multiple of 2, 3 and 4 at once."""
    return np.ascontiguousarray(data.astronaut()[30:155, 160:290])


def floor_half(x: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(np.round(x * 2.0**30) / 2.0**30 + 0.5), 0, 255)


def bicubic(x: np.ndarray, h: int, w: int) -> np.ndarray:
    """(H, W, C) -> (h, w, C): PyTorch's antialiased bicubic of the picture and its mirrors."""
    big = np.pad(x, [(x.shape[0],) * 2, (x.shape[1],) * 2, (0, 0)], mode="symmetric")
    t = torch.from_numpy(big.transpose(2, 0, 1)[None].astype(np.float64))
    y = F.interpolate(t, (3 * h, 3 * w), mode="bicubic", antialias=True, align_corners=False)
    return y[0, :, h : 2 * h, w : 2 * w].numpy().transpose(1, 2, 0)


def bicubic_8bit(x: np.ndarray, h: int, w: int) -> np.ndarray:
    """Rounded after the rows and after the columns."""
    return floor_half(bicubic(floor_half(bicubic(x, h, x.shape[1])), h, w))


def scores(a: np.ndarray, b: np.ndarray, border: int) -> tuple[float, float]:
    a, b = (x[border:-border, border:-border] for x in (a, b))
    options = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 255,
    }
    psnr = peak_signal_noise_ratio(a, b, data_range=255)
    return psnr, structural_similarity(a, b, **options)


def y_of(rgb: np.ndarray) -> np.ndarray:
    return rgb2ycbcr(rgb.astype(np.uint8))[..., 0]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_of_edsr_by_another_route(scale: int) -> None:
    hr = photo()
    h, w = hr.shape[0] // scale, hr.shape[1] // scale
    truth = hr[: h * scale, : w * scale].astype(float)
    lr = bicubic_8bit(truth, h, w)
    sr = bicubic_8bit(lr, h * scale, w * scale)
    psnr, ssim = scores(y_of(truth), y_of(sr), scale)

    got = score(Baseline(scale=scale), make_pair(hr, scale, "edsr"), "edsr")

    assert (got.psnr_y, got.ssim_y) == pytest.approx((psnr, ssim), abs=1e-6)
    assert (got.bicubic_psnr_y, got.bicubic_ssim_y) == (got.psnr_y, got.ssim_y)
    inner = slice(scale, -scale)
    want = peak_signal_noise_ratio(truth[inner, inner], sr[inner, inner], data_range=255)
    assert got.psnr_rgb == pytest.approx(want, abs=1e-9)
    small = bicubic_8bit(sr, h, w)[1:-1, 1:-1]
    want = peak_signal_noise_ratio(y_of(lr)[1:-1, 1:-1], y_of(small), data_range=255)
    assert got.lr_consistency == pytest.approx(want, abs=1e-6)
    assert got.megapixels == h * w * scale**2 / 1e6


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_of_srcnn_by_another_route(scale: int) -> None:
    hr = photo()
    h, w = hr.shape[0] // scale, hr.shape[1] // scale
    truth = np.floor(y_of(hr[: h * scale, : w * scale]) + 0.5)[..., None]
    lr = bicubic(truth, h, w)
    exact = bicubic(lr, h * scale, w * scale)
    want = scores(truth[..., 0], floor_half(exact)[..., 0], scale)

    pair = make_pair(hr, scale, "srcnn", y_only=True)
    got = score(Baseline(scale=scale), pair, "srcnn")

    np.testing.assert_allclose(pair.lr[0, 0].numpy(), lr[..., 0], rtol=0, atol=1e-9)
    assert (got.bicubic_psnr_y, got.bicubic_ssim_y) == pytest.approx(want, abs=1e-5)
    assert (got.psnr_y, got.ssim_y) == pytest.approx(want, abs=1e-4)  # through float32
    assert got.psnr_rgb is None
    small = bicubic(floor_half(exact), h, w)[1:-1, 1:-1]
    want_lr = peak_signal_noise_ratio(lr[1:-1, 1:-1], small, data_range=255)
    assert got.lr_consistency == pytest.approx(want_lr, abs=1e-3)


def test_the_truth_scores_infinity_and_is_consistent() -> None:
    hr = photo()
    pair = make_pair(hr, 4, "edsr")

    class Oracle(Baseline):
        def image(self, lr: np.ndarray) -> np.ndarray:
            return hr[:124, :128]

    got = score(Oracle(scale=4), pair, "edsr")
    assert got.psnr_y == got.psnr_rgb == got.lr_consistency == float("inf")
    assert got.ssim_y == pytest.approx(1, abs=1e-12)
    assert got.as_dict()["psnr_y"] is None


def test_a_given_low_resolution_picture_is_taken() -> None:
    hr = photo()
    made = make_pair(hr, 2, "edsr").lr[0].permute(1, 2, 0).numpy().astype(np.uint8)
    assert torch.equal(make_pair(hr, 2, "edsr", lr=made).lr, make_pair(hr, 2, "edsr").lr.double())
    black = score(Baseline(scale=2), make_pair(hr, 2, "edsr", lr=made * 0), "edsr")
    assert black.psnr_y < 10
    with pytest.raises(DataError, match=r"65x61.*65x62"):
        make_pair(hr, 2, "edsr", lr=made[1:])


def test_gray_is_its_own_y_for_srcnn_and_rgb_for_edsr() -> None:
    gray = photo()[..., :1]
    edsr = make_pair(gray, 2, "edsr")
    assert edsr.hr.shape == (1, 3, 124, 130)
    srcnn = make_pair(gray, 2, "srcnn")
    assert srcnn.hr.shape == (1, 1, 124, 130)
    np.testing.assert_array_equal(srcnn.hr[0, 0].numpy(), gray[:124, :, 0])


def test_srcnn_protocol_of_an_rgb_network_keeps_the_picture_float() -> None:
    seen = []

    class Watching(Baseline):
        def image(self, lr: np.ndarray) -> np.ndarray:
            seen.append(lr)
            return super().image(lr)

    got = score(Watching(scale=2, takes="rgb"), make_pair(photo(), 2, "srcnn"), "srcnn")
    (lr,) = seen
    assert lr.dtype == np.float32
    assert lr.shape == (62, 65, 3)
    assert not np.array_equal(lr * 255, np.round(lr * 255))
    assert got.psnr_y == pytest.approx(got.bicubic_psnr_y, abs=0.01)


@pytest.mark.parametrize("protocol", ["edsr", "srcnn"])
@pytest.mark.parametrize("shape", [(15, 40), (40, 15), (1, 1)])
def test_pictures_too_small_are_named(protocol: str, shape: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=f"{shape[1]}x{shape[0]} pixels are too few") as caught:
        make_pair(np.zeros((*shape, 3), np.uint8), 3, protocol)
    assert "19x19" in str(caught.value)
    make_pair(np.zeros((19, 19, 3), np.uint8), 3, protocol)


# The rows of bicubic as the papers print them, and as the benchmark pairs of EDSR score.
ROWS = {
    ("srcnn", 2): (33.66, 0.9299),
    ("srcnn", 3): (30.39, 0.8682),
    ("srcnn", 4): (28.42, 0.8104),
    ("edsr", 2): (33.67, 0.9303),
    ("edsr", 3): (30.40, 0.8689),
    ("edsr", 4): (28.43, 0.8111),
}


@pytest.mark.skipif(not SET5, reason="UPSCALE_SET5 does not name the folder of Set5's pictures")
@pytest.mark.parametrize(("protocol", "scale"), ROWS)
def test_bicubic_on_set5(protocol: str, scale: int) -> None:
    sets = find_sets([Path(SET5)])
    *_, summary = evaluate(sets, [Baseline(scale=scale)], protocol=protocol)
    psnr, ssim = ROWS[protocol, scale]
    assert summary.picture is None
    assert (summary.bicubic_psnr_y, summary.psnr_y) == pytest.approx((psnr, psnr), abs=0.01)
    assert (summary.bicubic_ssim_y, summary.ssim_y) == pytest.approx((ssim, ssim), abs=0.0005)
