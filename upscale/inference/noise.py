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
        period: Rows and columns after which the noise repeats; 0: never.
        margin: Rows and columns before the first ones of a period.
    """

    seed: int = 0
    temperature: float = 0.8
    samples: int = 1
    spread: bool = False
    period: tuple[int, ...] = (0, 0)
    margin: tuple[int, ...] = (0, 0)

    def larger(self, scale: int) -> Noise:
        """The same for a picture that is ``scale`` times as large."""
        period, margin = (tuple(scale * n for n in pair) for pair in (self.period, self.margin))
        return replace(self, period=period, margin=margin)

    def of(self, sample: int) -> Noise:
        """One of the draws alone."""
        return replace(self, seed=self.seed + sample, samples=1, spread=False)

    def of_tiles(self, channels: int, tiles: Sequence[Tile], corner: tuple[int, int]) -> Tensor:
        """Noise for some tiles of one size, (N, channels, H, W), of a picture that begins there."""
        parts = [
            self.draw(
                channels,
                tile.rows.size,
                tile.cols.size,
                first=corner[0] + tile.rows.start,
                left=corner[1] + tile.cols.start,
            )
            for tile in tiles
        ]
        return torch.cat(parts)

    def draw(
        self, channels: int, height: int, width: int, *, first: int = 0, left: int = 0
    ) -> Tensor:
        """Noise for a rectangle of a picture, from row ``first`` and column ``left`` on.

        Returns (1, channels, height, width) float32: a part of that of any larger picture.
        """
        if any(self.period):
            rows = _runs(first - self.margin[0], height, self.period[0])
            cols = _runs(left - self.margin[1], width, self.period[1])
            once = replace(self, period=(0, 0))
            bands = [
                torch.cat([once.draw(channels, h, w, first=y, left=x) for x, w in cols], -1)
                for y, h in rows
            ]
            return torch.cat(bands, -2)
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


def _runs(start: int, length: int, period: int) -> list[tuple[int, int]]:
    """Where ``length`` places from ``start`` on lie in periods: first place and number of each."""
    if not period:
        return [(start, length)]
    runs = []
    while length > 0:
        first = start % period
        count = min(length, period - first)
        runs.append((first, count))
        start, length = start + count, length - count
    return runs
