"""Fidelity of a picture to its ground truth: PSNR and SSIM, as the papers count them.

All functions take ``sr`` and ``hr`` as (N, C, H, W) tensors or arrays of equal shape, C = 1 (gray,
or Y already) or 3 (RGB), with values in 0..``peak`` (255 for 8-bit pictures; nothing is rounded or
clipped here), and give the mean over the N pictures as a float. Arithmetic is float64, on the CPU
and in numpy, whose single thread does not suffer when others are at work.

``crop_border`` pixels are left out at each side; super-resolution tables use the scale. With
``luma`` RGB is compared on Y of BT.601 in the studio range (MATLAB ``rgb2ycbcr``), kept as float,
not rounded: such figures lie 20 log10(255 / 219) = 1.32 dB above those of a full-range Y.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale.color.pixels import FORWARD, OFFSET
from upscale.errors import DataError

Picture = Tensor | NDArray[Any]
Planes = NDArray[np.float64]

SSIM_WINDOW = 11  # pixels
SSIM_SIGMA = 1.5  # pixels
SSIM_K1, SSIM_K2 = 0.01, 0.03


def luma(x: Picture, *, peak: float = 255.0) -> Tensor:
    """Y of BT.601 in the studio range, not rounded; a picture of one channel stays as it is.

    (N, 1 or 3, H, W) in 0..``peak`` to (N, 1, H, W) float64 in 16/255·peak .. 235/255·peak.

    Raises:
        DataError: ``x`` has other axes or channels.
    """
    return torch.from_numpy(_luma(_as_float64(x), peak))


def _luma(x: Planes, peak: float) -> Planes:
    if x.shape[1] == 1:
        return x
    r, g, b = (weight * x[:, c : c + 1] for c, weight in enumerate(FORWARD[0]))
    y: Planes = (OFFSET[0] * peak + r + g + b) / 255
    return y


def psnr(
    sr: Picture, hr: Picture, *, crop_border: int = 0, luma: bool = True, peak: float = 255.0
) -> float:
    """Peak signal-to-noise ratio, 10 log10(peak² / MSE), in dB; ``inf`` for equal pictures.

    Of Y, or of all channels together.

    Raises:
        DataError: Shapes differ, or nothing is left after the crop.
    """

    def decibel(x: Planes, y: Planes) -> float:
        mse = float(np.square(x - y).mean())
        return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)

    a, b = _prepare(sr, hr, crop_border, luma, peak, smallest=1)
    return _mean_over_pictures(decibel, a, b)


def ssim(
    sr: Picture, hr: Picture, *, crop_border: int = 0, luma: bool = True, peak: float = 255.0
) -> float:
    """Structural similarity (Wang et al. 2004), in [-1, 1].

    Gaussian window of 11x11 with sigma 1.5, K1 = 0.01, K2 = 0.03, population statistics, averaged
    over the pixels whose window lies wholly inside the picture. Of Y, or the mean of the channels.

    Raises:
        DataError: Shapes differ, or less than 11 pixels are left after the crop.
    """
    a, b = _prepare(sr, hr, crop_border, luma, peak, smallest=SSIM_WINDOW)
    return _mean_over_pictures(lambda x, y: float(_ssim_map(x, y, peak).mean()), a, b)


def mean_gradient(x: Picture, *, crop_border: int = 0, peak: float = 255.0) -> float:
    """Mean over the pixels of sqrt(dx² + dy²) of Y, by differences of neighbours: how much texture.

    In steps of the values a pixel; 0 where less than two rows or columns are left.

    Raises:
        DataError: ``x`` has other axes or channels.
    """
    y = _luma(_as_float64(x), peak)[:, 0]
    y = y[:, crop_border : y.shape[1] - crop_border, crop_border : y.shape[2] - crop_border]
    if min(y.shape[1:]) < 2:
        return 0.0
    across, down = np.diff(y, axis=2)[:, :-1], np.diff(y, axis=1)[:, :, :-1]
    return float(np.hypot(across, down).mean())


def _ssim_map(a: Planes, b: Planes, peak: float) -> Planes:
    """SSIM of each pixel: (C, H, W) twice -> (C, H - 10, W - 10)."""
    c1, c2 = (SSIM_K1 * peak) ** 2, (SSIM_K2 * peak) ** 2
    mean_a, mean_b = _blur(a), _blur(b)
    var_a = _blur(a * a) - mean_a * mean_a
    var_b = _blur(b * b) - mean_b * mean_b
    cov = _blur(a * b) - mean_a * mean_b
    structure = (2 * cov + c2) / (var_a + var_b + c2)
    similarity: Planes = structure * (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return similarity


def _blur(x: Planes) -> Planes:
    """Gaussian means of the windows inside the picture: (C, H, W) -> (C, H - 10, W - 10)."""
    t = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    bell = np.exp(-(t**2) / (2 * SSIM_SIGMA**2))
    bell /= bell.sum()
    height, width = x.shape[1] - SSIM_WINDOW + 1, x.shape[2] - SSIM_WINDOW + 1
    x = _sum(g * x[:, k : k + height] for k, g in enumerate(bell))
    return _sum(g * x[:, :, k : k + width] for k, g in enumerate(bell))


def _sum(terms: Iterator[Planes]) -> Planes:
    total = next(terms)
    for term in terms:
        total += term
    return total


def _mean_over_pictures(one: Callable[[Planes, Planes], float], sr: Planes, hr: Planes) -> float:
    return float(np.mean([one(a, b) for a, b in zip(sr, hr, strict=True)]))


def _as_float64(x: Picture) -> Planes:
    x = x.detach().cpu() if isinstance(x, Tensor) else x
    x = x.float().numpy() if isinstance(x, Tensor) and x.dtype == torch.bfloat16 else np.asarray(x)
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise DataError(
            f"a picture of shape {tuple(x.shape)} cannot be scored: "
            "pass (N, 1 or 3, H, W), channels first"
        )
    return x.astype(np.float64)


def _prepare(
    sr: Picture, hr: Picture, crop_border: int, on_luma: bool, peak: float, *, smallest: int
) -> tuple[Planes, Planes]:
    """Check, crop, and take Y: two (N, C, H, W) float64 arrays."""
    a, b = _as_float64(sr), _as_float64(hr)
    if a.shape != b.shape:
        raise DataError(
            f"pictures of shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be compared: "
            "crop or resize one to the other"
        )
    height, width = a.shape[2] - 2 * crop_border, a.shape[3] - 2 * crop_border
    if crop_border < 0 or min(height, width) < smallest or a.shape[0] == 0:
        raise DataError(
            f"{a.shape[0]} pictures of {a.shape[3]}x{a.shape[2]} with crop_border={crop_border} "
            f"leave {width}x{height} pixels: use larger pictures, at least {smallest}x{smallest} "
            "must be left"
        )
    inner = slice(crop_border, crop_border + height), slice(crop_border, crop_border + width)
    a, b = a[:, :, *inner], b[:, :, *inner]
    return (_luma(a, peak), _luma(b, peak)) if on_luma else (a, b)
