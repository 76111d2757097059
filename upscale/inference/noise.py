"""Noise that depends on seed and position alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """Where the noise of a network with noise channels comes from.

    Attributes:
        seed: The same seed gives the same picture; addressed by position, whatever the tiles.
        temperature: Standard deviation of the noise; 1 is the prior, 0 its mean.
    """

    seed: int = 0
    temperature: float = 0.8

    def draw(self, channels: int, height: int, width: int, *, first: int = 0) -> Tensor:
        """Noise for ``height`` rows of a picture from row ``first`` on.

        Returns (1, channels, height, width) float32: a part of that of any larger picture.
        """
        rows = np.empty((channels, height, width), np.float32)
        for c in range(channels):
            for y in range(height):
                bits = np.random.Philox(key=self.seed, counter=[0, 0, first + y, c])
                rows[c, y] = np.random.Generator(bits).standard_normal(width, np.float32)
        return torch.from_numpy(rows * np.float32(self.temperature))[None]
