"""Noise that depends on seed and position alone, and how many draws of it are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from upscale.tiling import Tile

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


@dataclass(frozen=True)
class TileNoise:
    """The noise of a batch of tiles.

    Attributes:
        noise: Where it comes from.
        channels: Noise channels of the network.
        tiles: The batch.
        corner: First row and column of the picture that the tiles are of, in a larger one.
        is_turned: Rows are columns.
        flips: Axes that are flipped then.
    """

    noise: Noise
    channels: int
    tiles: Sequence[Tile]
    corner: tuple[int, int] = (0, 0)
    is_turned: bool = False
    flips: tuple[int, ...] = ()

    def of(self, sample: int) -> Tensor:
        """The noise of draw ``sample``, (N, noise channels, H, W)."""
        noise = self.noise.of(sample)
        parts = [
            noise.draw(
                self.channels,
                tile.rows.size,
                tile.cols.size,
                first=self.corner[0] + tile.rows.start,
                left=self.corner[1] + tile.cols.start,
            )
            for tile in self.tiles
        ]
        z = torch.cat(parts)
        return (z.transpose(-2, -1) if self.is_turned else z).flip(self.flips)

    def turned(self, is_turned: bool, flips: tuple[int, ...]) -> TileNoise:
        """The same noise, turned and flipped with the picture."""
        return replace(self, is_turned=is_turned, flips=flips)
