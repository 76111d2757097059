"""Figures of one picture: texture, colour, and fidelity."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscale import metrics
from upscale.evaluate.protocol import to_tensor
from upscale.evaluate.scores import for_json, made_small

Pixels = NDArray[np.uint8]  # (H, W, 3)
Colour = tuple[float, float, float]  # R, G, B in 0..255


@dataclass(frozen=True)
class Figures:
    """What can be counted of an enlarged picture, in 8-bit levels and dB."""

    mean_gradient: float  # of Y, a pixel: how much texture
    mean_colour: Colour
    colour_shift: float  # largest difference of a mean from that of the low-resolution picture
    lr_consistency: float | None  # PSNR on Y of this one downsampled to the low-resolution picture
    psnr_y: float | None = None  # against the ground truth
    ssim_y: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields for JSON; an infinite PSNR (equal pictures) is null."""
        return for_json(self, 4) | {"mean_colour": [round(c, 4) for c in self.mean_colour]}

    def cells(self) -> dict[str, str]:
        """Every figure for people, by its heading; empty where there is none."""
        return {
            "PSNR": written(self.psnr_y, 2),
            "SSIM": written(self.ssim_y, 4),
            "LR PSNR": written(self.lr_consistency, 2),
            "gradient": written(self.mean_gradient, 2),
            "mean R, G, B": ", ".join(f"{c:.1f}" for c in self.mean_colour),
            "shift": written(self.colour_shift, 2),
        }


def mean_colour(picture: Pixels) -> Colour:
    """Mean of R, G and B in 8-bit levels of a picture (H, W, 3)."""
    r, g, b = picture.mean((0, 1), dtype=np.float64).tolist()
    return r, g, b


def figures(sr: Pixels, lr: Pixels, *, hr: Pixels | None = None, cut: bool = False) -> Figures:
    """Count what can be counted of ``sr``, (scale·h, scale·w, 3), made of ``lr``, (h, w, 3) uint8.

    Where the two are ``cut`` out of larger pictures, a wider border is left out of the comparison
    with ``lr``, whose pixels depend on what is cut off. ``hr`` is the ground truth.
    """
    colours = mean_colour(sr), mean_colour(lr)
    scale, around = sr.shape[0] // lr.shape[0], 2 if cut else 1
    small = made_small(to_tensor(sr), (lr.shape[0], lr.shape[1]), "edsr")
    consistency = _counted(metrics.psnr, small, to_tensor(lr), around, 1)
    psnr = ssim = None
    if hr is not None:
        a, b = to_tensor(sr), to_tensor(hr)
        psnr = _counted(metrics.psnr, a, b, scale, 1)
        ssim = _counted(metrics.ssim, a, b, scale, metrics.SSIM_WINDOW)
    gradient = metrics.mean_gradient(to_tensor(sr))
    shift = max(abs(a - b) for a, b in zip(*colours, strict=True))
    return Figures(gradient, colours[0], shift, consistency, psnr, ssim)


def _counted(
    metric: Callable[..., float], a: Any, b: Any, border: int, smallest: int
) -> float | None:
    """A metric without a border; None where less than ``smallest`` pixels are left."""
    return metric(a, b, crop_border=border) if min(a.shape[2:]) - 2 * border >= smallest else None


def written(value: float | None, digits: int) -> str:
    """A figure for people: empty where there is none, ``equal`` for an infinite PSNR."""
    if value is None:
        return ""
    return f"{value:.{digits}f}" if math.isfinite(value) else "equal"
