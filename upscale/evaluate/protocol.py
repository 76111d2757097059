"""Score super-resolution on folders of ground truth, by the protocols of the papers.

``edsr`` (EDSR, RCAN, ESRGAN, SwinIR): the low-resolution picture is 8-bit RGB, made by MATLAB's
bicubic with rounding after each pass; the result is rounded to 8-bit RGB and compared on Y, kept as
float. ``srcnn`` (SRCNN, VDSR): Y rounded to 8 bit is the ground truth, the low-resolution picture
stays float, and the result's Y is rounded to 8 bit; a gray picture is its own Y.

In both the ground truth is cropped to a multiple of the scale (at the right and the bottom), and
``scale`` pixels are left out at each border (none at scale 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale import metrics
from upscale.errors import DataError
from upscale.resample import resize, resize_uint8

PROTOCOLS = ("edsr", "srcnn")

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Pair:
    """Ground truth and its low-resolution picture, as (1, C, H, W) tensors.

    ``hr`` has whole values 0..255. ``lr`` has whole values 0..255 where it is 8-bit RGB (``edsr``),
    and else floats on the same range. C is 1 (Y) where the protocol scores Y alone. ``clean`` is
    the low-resolution picture before it was damaged; None where nothing damaged it.
    """

    hr: Tensor
    lr: Tensor
    clean: Tensor | None = None


def make_pair(
    hr: Pixels, scale: int, protocol: str, *, lr: Pixels | None = None, y_only: bool = False
) -> Pair:
    """Crop the ground truth and make the low-resolution picture, or take the given one.

    Args:
        hr: (H, W, 1 or 3) uint8.
        scale: Whole factor.
        protocol: ``edsr`` or ``srcnn``.
        lr: (H // scale, W // scale, 1 or 3) uint8, if it exists already.
        y_only: For ``srcnn``: give Y instead of RGB.

    Raises:
        DataError: ``hr`` is too small for the scale, or ``lr`` has another size.
    """
    h, w = hr.shape[0] // scale, hr.shape[1] // scale
    border = border_of(scale)
    if min(h, w) * scale - 2 * border < metrics.SSIM_WINDOW:
        least = metrics.SSIM_WINDOW + 2 * border + scale - 1
        raise DataError(
            f"{hr.shape[1]}x{hr.shape[0]} pixels are too few to be scored at x{scale}: "
            f"use pictures of at least {least}x{least}"
        )
    if lr is not None and lr.shape[:2] != (h, w):
        raise DataError(
            f"the low-resolution picture has {lr.shape[1]}x{lr.shape[0]} pixels where "
            f"{w}x{h} go with {hr.shape[1]}x{hr.shape[0]} at x{scale}: "
            "give the picture of the same scale"
        )
    truth = to_tensor(hr)[..., : h * scale, : w * scale]
    small = None if lr is None else to_tensor(lr)
    if protocol == "edsr":
        truth = as_rgb(truth)
        return Pair(truth, resize_uint8(truth, (h, w)) if small is None else as_rgb(small))
    if y_only or truth.shape[1] == 1:
        truth = round_8bit(metrics.luma(truth))
        small = None if small is None else metrics.luma(small)
    return Pair(truth, resize(truth, (h, w)) if small is None else small)


def border_of(scale: int) -> int:
    """Pixels at each border that are not scored."""
    return scale if scale > 1 else 0


def bicubic(lr: Tensor, scale: int, protocol: str) -> Tensor:
    """Enlarge ``lr`` (1, C, h, w) as the protocol's tables do; at scale 1 it is ``lr`` itself.

    Whole values 0..255 where the protocol is ``edsr``.
    """
    size = (lr.shape[2] * scale, lr.shape[3] * scale)
    return round_8bit(resize_uint8(lr, size)) if protocol == "edsr" else resize(lr, size)


def psnr_y(sr: Tensor, hr: Tensor, scale: int) -> float:
    """PSNR on Y in dB as ``edsr`` counts it: RGB rounded to 8 bit, no border of ``scale`` pixels.

    Both are (1, 1 or 3, H, W) in levels 0..255; Y (one channel) is clipped and not rounded.
    """
    shown = round_8bit(sr) if sr.shape[1] == 3 else sr.clamp(0, 255)
    return metrics.psnr(shown, hr, crop_border=border_of(scale))


def to_tensor(pixels: Pixels) -> Tensor:
    """(H, W, C) of any dtype -> (1, C, H, W) float64, the same values."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float64))


def to_pixels(x: Tensor) -> Pixels:
    """(1, C, H, W) -> (H, W, C), the same values."""
    return np.ascontiguousarray(x[0].permute(1, 2, 0).cpu().numpy())


def as_rgb(x: Tensor) -> Tensor:
    """(1, 1 or 3, H, W) -> (1, 3, H, W): gray becomes three equal channels."""
    return x.expand(-1, 3, -1, -1).contiguous() if x.shape[1] == 1 else x


def round_8bit(x: Tensor) -> Tensor:
    """Round half up and clip to 0..255, as MATLAB's uint8 does."""
    return (x + 0.5).floor().clamp(0, 255)
