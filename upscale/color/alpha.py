"""Alpha: colour under transparent pixels before the network, limits of alpha after it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from upscale.resample import resize

REACH = 1  # LR pixels around a pixel that bound its alpha
NEAR, FAR = 0.02, 0.12  # a limit that is nearer counts in full, one that is farther not at all


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


def enlarged(
    alpha: Tensor, size: tuple[int, int], rows: tuple[int, int], network: Tensor | None
) -> Tensor:
    """Output rows [y0, y1) of alpha enlarged to ``size``, (1, 1, y1 - y0, W') in [0, 1].

    The result stays between the smallest and the largest alpha within ``REACH`` LR pixels, so that
    an opaque interior stays opaque whatever a network makes of it. Networks also ring along edges:
    where the bicubic kernel comes near one of the two limits, that limit is taken.

    Args:
        alpha: (1, 1, H, W), what the picture had.
        size: Height and width of the whole output.
        rows: y0 and y1.
        network: The same rows as the network gave them; None for the bicubic kernel alone.
    """
    side = 2 * REACH + 1
    high = nearest_rows(F.max_pool2d(alpha, side, 1, REACH), size, rows)
    low = nearest_rows(-F.max_pool2d(-alpha, side, 1, REACH), size, rows)
    smooth = resize(alpha, size, rows=rows)
    given = smooth if network is None else network
    inside = torch.minimum(torch.maximum(given, low), high)
    if network is None or size == tuple(alpha.shape[-2:]):
        return inside
    place = (smooth - low) / (high - low).clamp_min(1e-6)
    above = ((place - 1 + FAR) / (FAR - NEAR)).clamp(0, 1)
    below = ((FAR - place) / (FAR - NEAR)).clamp(0, 1)
    return inside + above * (high - inside) - below * (inside - low)


def nearest_rows(x: Tensor, size: tuple[int, int], rows: tuple[int, int]) -> Tensor:
    """Output rows [y0, y1) of ``x`` (N, C, H, W) enlarged to ``size`` by nearest neighbour."""
    (height, width), (out_h, out_w) = x.shape[-2:], size
    at_y = (torch.arange(rows[0], rows[1]) * 2 + 1) * height // (2 * out_h)
    at_x = (torch.arange(out_w) * 2 + 1) * width // (2 * out_w)
    return x.index_select(-2, at_y).index_select(-1, at_x)
