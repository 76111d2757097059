"""Alpha: colour under transparent pixels before the network, limits of alpha after it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from upscale.resample import resize

REACH = 1  # LR pixels around a pixel that bound its alpha
NEAR, FAR = 0.02, 0.12  # a limit that is nearer counts in full, one that is farther not at all
CELL = 64  # LR pixels a side of the largest cell of the pyramid that fills holes
MARGIN = 2 * CELL  # rows around a piece, beginning at a multiple of CELL, that decide its filling


def bleed(colour: Tensor, alpha: Tensor, far: Tensor | None = None) -> Tensor:
    """Fill the colour of fully transparent pixels from the opaque ones around them.

    A pyramid of alpha-weighted means is built up to cells of ``CELL`` pixels; every hole takes the
    finest level that has colour (push-pull interpolation, Gortler et al. 1996, section 3.4), and
    what is farther from all colour takes one for all.

    Args:
        colour: (N, C, H, W), straight (not multiplied by alpha).
        alpha: (N, 1, H, W) in [0, 1].
        far: (N, C, 1, 1), the colour far from all others; None: the mean of what is seen.

    Returns:
        (N, C, H, W): ``colour`` where alpha is above 0, the filling elsewhere; ``colour`` itself
        where nothing is transparent, or all and ``far`` is None.
    """
    hole = alpha <= 0
    if not bool(hole.any()) or (far is None and bool(hole.all())):
        return colour
    if far is None:
        far = (colour * alpha).sum((2, 3), keepdim=True) / alpha.sum((2, 3), keepdim=True)
    return torch.where(hole, _fill(colour * alpha, alpha, far, CELL), colour)


def _fill(weighted: Tensor, weight: Tensor, far: Tensor, cell: int) -> Tensor:
    """Colour everywhere from ``weighted`` = colour * weight, coarser levels where weight is 0."""
    # 1. The mean of what is seen in each cell of this level.
    own = weighted / weight.clamp_min(1e-12)
    if cell == 1:
        return torch.where(weight > 0, own, far)
    # 2. The coarser levels, where those too have holes; theirs shows through the holes of this one.
    coarse = _fill(_halve(weighted), _halve(weight), far, cell // 2)
    up = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.where(weight > 0, own, up[..., : weight.shape[-2], : weight.shape[-1]])


def _halve(x: Tensor) -> Tensor:
    """Mean of 2 x 2 pixels; an odd last row or column stands alone."""
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


def enlarge_alpha(
    alpha: Tensor,
    shape: tuple[int, int],
    rows: tuple[int, int],
    network: Tensor | None,
    part: tuple[int, int] | None = None,
) -> Tensor:
    """Output rows [y0, y1) of alpha enlarged to ``shape``, (1, 1, y1 - y0, W') in [0, 1].

    The result stays between the smallest and the largest alpha within ``REACH`` LR pixels, so that
    an opaque interior stays opaque whatever a network makes of it. Networks also ring along edges:
    where the bicubic kernel comes near one of the two limits, that limit is taken.

    Args:
        alpha: (1, 1, H, W), what the picture had.
        shape: Height and width of the whole output.
        rows: y0 and y1.
        network: The same rows as the network gave them; None for the bicubic kernel alone.
        part: First row and whole height of the picture where ``alpha`` is some rows of it: those
            that the kernel needs, and ``REACH`` more on both sides.
    """
    first, height = part or (0, alpha.shape[-2])
    # 1. The limits around every output pixel, and what the kernel makes of alpha.
    side = 2 * REACH + 1
    high = _nearest_rows(F.max_pool2d(alpha, side, 1, REACH), shape, rows, (first, height))
    low = _nearest_rows(-F.max_pool2d(-alpha, side, 1, REACH), shape, rows, (first, height))
    smooth = resize(alpha, shape, rows=rows, part=(first, height))
    # 2. Nothing beyond the limits.
    inside = torch.minimum(torch.maximum(smooth if network is None else network, low), high)
    if network is None or shape == (height, alpha.shape[-1]):
        return inside
    # 3. Towards a limit, the more the nearer the kernel's result lies to it.
    between = (smooth - low) / (high - low).clamp_min(1e-6)
    above = ((between - 1 + FAR) / (FAR - NEAR)).clamp(0, 1)
    below = ((FAR - between) / (FAR - NEAR)).clamp(0, 1)
    return inside + above * (high - inside) - below * (inside - low)


def _nearest_rows(
    x: Tensor, shape: tuple[int, int], rows: tuple[int, int], part: tuple[int, int]
) -> Tensor:
    """Output rows [y0, y1) of a picture enlarged to ``shape`` by nearest neighbour.

    ``x`` (N, C, h, W) is its rows from ``part[0]`` on, ``part[1]`` its height.
    """
    first, height = part
    at_y = (torch.arange(rows[0], rows[1]) * 2 + 1) * height // (2 * shape[0]) - first
    at_x = (torch.arange(shape[1]) * 2 + 1) * x.shape[-1] // (2 * shape[1])
    return x.index_select(-2, at_y).index_select(-1, at_x)
