"""Small networks for the tests of the engine: exact halos, chosen failures, noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.models import Config, Network


@dataclass(frozen=True)
class ToyConfig(Config):
    scale: int = 2
    channels: int = 3
    noise_channels: int = 0
    window: int = 1


class Toy(Network):
    """Two 3x3 convolutions around an enlargement; its halo of 3 LR pixels is exact.

    With a window, each pixel also sees the mean of its window: tiles must keep the window grid.
    """

    architecture: ClassVar[str] = "toy"
    config_type: ClassVar[type[Config]] = ToyConfig
    precisions: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float16, torch.bfloat16)

    config: ToyConfig

    def __init__(self, config: ToyConfig | None = None, seed: int = 0) -> None:
        super().__init__()
        config = config or ToyConfig()
        self.config = config
        self.scale = config.scale
        self.channels = config.channels
        self.noise_channels = config.noise_channels
        self.multiple_of = config.window
        self.halo = 3 if config.window == 1 else 3 + config.window
        self.halo_is_exact = True
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv_first = nn.Conv2d(config.channels + config.noise_channels, 8, 3, padding=1)
            self.conv_last = nn.Conv2d(8, config.channels, 3, padding=1)

    def forward(self, lr: Tensor) -> Tensor:
        x = F.relu(self.conv_first(lr))
        if self.config.window > 1:
            mean = F.avg_pool2d(x, self.config.window)
            x = x + F.interpolate(mean, scale_factor=self.config.window, mode="nearest")
        return self.conv_last(F.interpolate(x, scale_factor=self.scale, mode="nearest"))


class Greedy(Toy):
    """Runs out of memory above ``limit`` LR pixels a batch; counts what it was asked."""

    def __init__(self, limit: int, error: BaseException, config: ToyConfig | None = None) -> None:
        super().__init__(config)
        self.limit, self.error = limit, error
        self.seen: list[tuple[int, ...]] = []

    def __deepcopy__(self, memo: object) -> Greedy:
        return self  # so that what it saw stays in sight

    def forward(self, lr: Tensor) -> Tensor:
        self.seen.append(tuple(lr.shape))
        if lr.shape[0] * lr.shape[2] * lr.shape[3] > self.limit:
            raise self.error
        return super().forward(lr)


class Overflowing(Toy):
    """Not finite in half precision where a tile has a bright pixel; always, where ``broken``."""

    broken: bool = False

    def forward(self, lr: Tensor) -> Tensor:
        y = super().forward(lr)
        if self.broken or (lr.dtype != torch.float32 and bool((lr > 0.99).any())):
            y = y * float("inf")
        return y
