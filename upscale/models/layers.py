"""Layers that two or more networks use."""

from __future__ import annotations

import math

from torch import nn


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
