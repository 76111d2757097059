"""No network: the picture as it is, which the one bicubic kernel then enlarges to any size.

Keys, "Cubic convolution interpolation for digital image processing", 1981. The baseline of every
table, and the fastest answer. It has no scale of its own, as what no network enlarges is enlarged
by bicubic anyway, in one step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from upscale.models import Config, Network


@dataclass(frozen=True)
class BicubicConfig(Config):
    """Nothing to choose."""

    scale: int = 1
    channels: int = 3
    final_scale: int = 4  # where no size is asked for: as the other families' largest


class Bicubic(Network):
    """The identity, for RGB."""

    architecture: ClassVar[str] = "bicubic"
    config_type: ClassVar[type[Config]] = BicubicConfig

    def __init__(self, config: BicubicConfig) -> None:
        super().__init__()
        self.config = config
        self.scale, self.channels = config.scale, config.channels
        self.halo_is_exact = True

    def forward(self, lr: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1], the same out."""
        return lr.clone()
