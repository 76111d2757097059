"""Layers that two or more networks use."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.resample import taps


class Upsample(nn.Sequential):
    """Sub-pixel enlargement (Shi 2016, arXiv 1609.05158): x2 stages, or one x3 for 3.

    (N, channels, H, W) -> (N, channels, scale*H, scale*W). Keys ``0``, ``2``, … hold convolutions.
    """

    def __init__(self, scale: int, channels: int) -> None:
        stages: list[nn.Module] = []
        for factor in upsample_factors(scale):
            stages += [
                nn.Conv2d(channels, channels * factor**2, 3, padding=1),
                nn.PixelShuffle(factor),
            ]
        super().__init__(*stages)


def upsample_factors(scale: int) -> tuple[int, ...]:
    """Stages whose product is ``scale``: 2s for a power of two, one 3 for 3; () for 1.

    Raises:
        ValueError: Another scale.
    """
    if scale == 3:
        return (3,)
    if scale < 1 or scale & (scale - 1):
        raise ValueError(f"scale {scale} is not a power of two or 3")
    return (2,) * int(math.log2(scale))


def enlarge_traced(lr: Tensor, scale: int) -> Tensor:
    """Bicubic by a whole factor for a graph that serves every size, (N, C, H, W) floating.

    The weights of an output row depend on its phase, row % scale, alone: they are read off the
    middle of a long axis, and applied as ``scale`` kernels of five taps to the mirrored axis.
    """
    middle = 4
    index, weight = (t[middle * scale : (middle + 1) * scale] for t in taps(9, 9 * scale))
    kernels = torch.zeros(scale, 5, dtype=torch.float64)
    kernels.scatter_add_(1, torch.from_numpy(index - middle + 2), torch.from_numpy(weight.copy()))
    return _along(_along(lr, 2, kernels, 2, 2), 3, kernels, 2, 2)


def shrink_traced(hr: Tensor, scale: int) -> Tensor:
    """Antialiased bicubic to a whole part of the size, as :func:`enlarge_traced` for a graph."""
    middle = 8
    index, weight = (t[middle] for t in taps(17 * scale, 17))
    first, last = int(index[0]), int(index[-1])
    kernel = torch.zeros(1, last - first + 1, dtype=torch.float64)  # taps of 0 are not in ``index``
    kernel[0, torch.from_numpy(index - first)] = torch.from_numpy(weight.copy())
    ends = middle * scale - first, last - (middle + 1) * scale + 1
    return _along(_along(hr, 2, kernel, *ends, scale), 3, kernel, *ends, scale)


def _along(x: Tensor, axis: int, kernels: Tensor, before: int, after: int, step: int = 1) -> Tensor:
    """Kernels (P, K) at every ``step`` of an axis, their results in turn.

    The axis is mirrored at its ends, the edge pixel repeated: so many pixels ``before`` and after.
    """
    length = x.shape[axis]
    at = (torch.arange(length + before + after) - before) % (2 * length)
    x = x.index_select(axis, torch.where(at < length, at, 2 * length - 1 - at))
    n, c, h, w = x.shape
    rows, weights = x.reshape(n * c, 1, h, w), kernels.to(x.dtype)
    if axis == 2:
        y = F.conv2d(rows, weights[:, None, :, None], stride=(step, 1))
        return y.transpose(1, 2).reshape(n, c, -1, w)
    y = F.conv2d(rows, weights[:, None, None, :], stride=(1, step))
    return y.permute(0, 2, 3, 1).reshape(n, c, h, -1)
