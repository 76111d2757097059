"""Figures of one picture: texture, colour, and fidelity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscale import metrics
from upscale.evaluate.protocol import to_tensor
from upscale.resample import resize_uint8

Pixels = NDArray[np.uint8]  # (H, W, 3)
Colour = tuple[float, float, float]  # R, G, B in 0..255


@dataclass(frozen=True)
class Figures:
    """What can be counted of an enlarged picture.

    Attributes:
        mean_gradient: Mean gradient magnitude of Y, in 8-bit levels a pixel: how much texture.
        mean_colour: Mean of R, G, B, in 8-bit levels.
        colour_shift: Largest difference of a mean from that of the low-resolution picture.
        lr_consistency: PSNR on Y in dB between the low-resolution picture and this one downsampled.
        psnr_y: Against the ground truth, in dB; None where there is none.
        ssim_y: Against the ground truth.
    """

    mean_gradient: float
    mean_colour: Colour
    colour_shift: float
    lr_consistency: float | None
    psnr_y: float | None = None
    ssim_y: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields for JSON; an infinite PSNR (equal pictures) is null."""
        return {
            "mean_gradient": round(self.mean_gradient, 4),
            "mean_colour": [round(c, 4) for c in self.mean_colour],
            "colour_shift": round(self.colour_shift, 4),
            "lr_consistency": _plain(self.lr_consistency),
            "psnr_y": _plain(self.psnr_y),
            "ssim_y": _plain(self.ssim_y),
        }


def mean_colour(picture: Pixels) -> Colour:
    """Mean of R, G and B in 8-bit levels of a picture (H, W, 3)."""
    r, g, b = picture.mean((0, 1), dtype=np.float64).tolist()
    return r, g, b


def figures(sr: Pixels, lr: Pixels, *, hr: Pixels | None = None, cut: bool = False) -> Figures:
    """Count what can be counted.

    Args:
        sr: The enlarged picture, (scale·h, scale·w, 3) uint8.
        lr: What it was made from, (h, w, 3) uint8.
        hr: Ground truth of the size of ``sr``.
        cut: Whether the two are cut out of larger pictures: a wider border of the low-resolution
            picture is then left out of the comparison with it, whose pixels depend on what is cut
            off.
    """
    colours = mean_colour(sr), mean_colour(lr)
    scale = sr.shape[0] // lr.shape[0]
    return Figures(
        mean_gradient=metrics.mean_gradient(to_tensor(sr)),
        mean_colour=colours[0],
        colour_shift=max(abs(a - b) for a, b in zip(*colours, strict=True)),
        lr_consistency=_consistency(sr, lr, 2 if cut else 1),
        psnr_y=None if hr is None else _against(metrics.psnr, sr, hr, scale, 1),
        ssim_y=None if hr is None else _against(metrics.ssim, sr, hr, scale, metrics.SSIM_WINDOW),
    )


def _consistency(sr: Pixels, lr: Pixels, border: int) -> float | None:
    if min(lr.shape[:2]) <= 2 * border:
        return None
    small = resize_uint8(to_tensor(sr), (lr.shape[0], lr.shape[1]))
    return metrics.psnr(small, to_tensor(lr), crop_border=border)


def _against(metric: Any, sr: Pixels, hr: Pixels, border: int, smallest: int) -> float | None:
    if min(sr.shape[:2]) - 2 * border < smallest:
        return None
    return float(metric(to_tensor(sr), to_tensor(hr), crop_border=border))


def written(value: float | None, digits: int) -> str:
    """A figure for people: empty where there is none, ``equal`` for an infinite PSNR."""
    if value is None:
        return ""
    return f"{value:.{digits}f}" if math.isfinite(value) else "equal"


def _plain(value: float | None) -> float | None:
    return round(value, 4) if value is not None and math.isfinite(value) else None
