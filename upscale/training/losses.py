"""Losses on pictures (N, C, H, W) in [0, 1]; each gives a scalar."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

CHARBONNIER_EPSILON = 1e-3


def charbonnier(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean of sqrt((sr - hr)^2 + eps^2), eps = 1e-3 (SwinIR, eq. 9)."""
    return torch.sqrt((sr - hr) ** 2 + CHARBONNIER_EPSILON**2).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "charbonnier": charbonnier,
}
