"""From ground truth to the low-resolution picture that a network learns to enlarge.

A degradation is a function ``(hr, scale, rng) -> lr`` on batches (N, 3, s*H, s*W) -> (N, 3, H, W),
both float32 in [0, 1]; :data:`DEGRADATIONS` names them for recipes. A blind chain (blur, resize,
noise, JPEG) is one more function.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from upscale.resample import resize

Degradation = Callable[[Tensor, int, np.random.Generator], Tensor]

MARGIN = 4  # LR pixels around a patch; the antialiased bicubic kernel reads 2 of them


def to_8_bit(x: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to multiples of 1/255 (half up), in place."""
    return x.mul_(255).add_(0.5).floor_().clamp_(0, 255).div_(255)


def bicubic(hr: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
    """MATLAB's antialiased bicubic with 8-bit rounding, the setting of the papers' tables."""
    height, width = hr.shape[-2] // scale, hr.shape[-1] // scale
    return to_8_bit(resize(hr, (height, width)))


DEGRADATIONS: dict[str, Degradation] = {"bicubic": bicubic}
