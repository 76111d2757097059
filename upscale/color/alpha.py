"""Alpha: colour under transparent pixels before the network, limits of alpha after it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

REACH = 2  # LR pixels around a pixel that bound its alpha: the reach of the bicubic kernel


def bleed(colour: Tensor, alpha: Tensor) -> Tensor:
    """Fill the colour of fully transparent pixels from the opaque ones around them.

    A pyramid of alpha-weighted means is built down to one pixel; every hole takes the finest level
    that has colour (push-pull interpolation, Gortler et al. 1996, section 3.4).

    Args:
        colour: (N, C, H, W), straight (not multiplied by alpha).
        alpha: (N, 1, H, W) in [0, 1].

    Returns:
        (N, C, H, W): ``colour`` where alpha is above 0, the filling elsewhere; ``colour`` itself
        where nothing or everything is transparent.
    """
    hole = alpha <= 0
    if not bool(hole.any()) or bool(hole.all()):
        return colour
    return torch.where(hole, _fill(colour * alpha, alpha), colour)


def _fill(weighted: Tensor, weight: Tensor) -> Tensor:
    """Colour everywhere from ``weighted`` = colour * weight, coarser levels where weight is 0."""
    own = weighted / weight.clamp_min(1e-12)
    height, width = weight.shape[-2:]
    if height == width == 1:
        return own
    coarse = _fill(_halve(weighted), _halve(weight))
    up = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return torch.where(weight > 0, own, up)


def _halve(x: Tensor) -> Tensor:
    """Mean of 2 x 2 pixels; an odd last row or column stands alone."""
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


def bounds(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest alpha within ``REACH`` pixels of every pixel, each (N, 1, H, W).

    Alpha that is enlarged must stay between them: an opaque interior stays opaque, a transparent
    surrounding transparent, whatever a network makes of it.
    """
    side = 2 * REACH + 1
    high = F.max_pool2d(alpha, side, 1, REACH)
    low = -F.max_pool2d(-alpha, side, 1, REACH)
    return low, high


def nearest_rows(x: Tensor, size: tuple[int, int], rows: tuple[int, int]) -> Tensor:
    """Output rows [y0, y1) of ``x`` (N, C, H, W) enlarged to ``size`` by nearest neighbour."""
    (height, width), (out_h, out_w) = x.shape[-2:], size
    at_y = (torch.arange(rows[0], rows[1]) * 2 + 1) * height // (2 * out_h)
    at_x = (torch.arange(out_w) * 2 + 1) * width // (2 * out_w)
    return x.index_select(-2, at_y).index_select(-1, at_x)
