"""Noise that depends on seed and position alone, and how many draws of it are taken."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

BLOCK = 64  # columns that one generator serves, so that a tile draws no more than it needs


@dataclass(frozen=True)
class Noise:
    """Where the noise of a network with noise channels comes from.

    Attributes:
        seed: The same seed gives the same picture; addressed by position, whatever the tiles.
        temperature: Standard deviation of the noise; 1 is the prior, 0 its mean.
        samples: Draws that the result is the mean of; draw k has the seed ``seed + k``.
        spread: Give two more channels: the variance between the draws (0 for a single one) and the
            variance that each draw has by itself, both the mean over the colours.
    """

    seed: int = 0
    temperature: float = 0.8
    samples: int = 1
    spread: bool = False

    def of(self, sample: int) -> Noise:
        """One of the draws alone."""
        return replace(self, seed=self.seed + sample, samples=1, spread=False)

    def draw(
        self, channels: int, height: int, width: int, *, first: int = 0, left: int = 0
    ) -> Tensor:
        """Noise for a rectangle of a picture, from row ``first`` and column ``left`` on.

        Returns (1, channels, height, width) float32: a part of that of any larger picture.
        """
        # Columns are drawn in whole blocks, each row and channel of one from its own generator,
        # whose counter is its place: so a part of the picture draws what the whole would.
        blocks = range(left // BLOCK, -(-(left + width) // BLOCK))
        drawn = np.empty((channels, height, len(blocks), BLOCK), np.float32)
        for c in range(channels):
            for y in range(height):
                for k, block in enumerate(blocks):
                    bits = np.random.Philox(key=self.seed, counter=[0, block, first + y, c])
                    generator = np.random.Generator(bits)
                    generator.standard_normal(dtype=np.float32, out=drawn[c, y, k])
        offset = left - blocks.start * BLOCK
        cut = drawn.reshape(channels, height, -1)[:, :, offset : offset + width]
        return torch.from_numpy(cut * np.float32(self.temperature))[None]
