"""Layers that two or more networks use."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def is_traced() -> bool:
    """Whether a graph is being made that is to serve every size (the ONNX export)."""
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return traced


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Reflect (replicate where too small) bottom and right of (N, C, H, W) to a multiple."""
    bottom, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    if is_traced():
        return _pad_traced(x, bottom, right)
    if not bottom and not right:
        return x
    mode = "reflect" if bottom < x.shape[-2] and right < x.shape[-1] else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)


def _pad_traced(x: Tensor, bottom: int, right: int) -> Tensor:
    """The same for a graph that serves every size: no branch is taken, rows are looked up."""
    height, width = x.shape[-2:]
    fits = torch.as_tensor(bottom < height) & torch.as_tensor(right < width)
    for axis, length, more in ((-2, height, bottom), (-1, width, right)):
        at = torch.arange(length + more)
        beyond = torch.where(fits, 2 * length - 2 - at, length - 1)
        x = x.index_select(axis, torch.where(at < length, at, beyond))
    return x
