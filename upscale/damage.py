"""How compressed and how noisy a picture is, told from the picture alone.

``blockiness`` finds the blocks that JPEG leaves in pixels, whatever file they lie in;
``noise_sigma`` measures white noise. Both look at about half a megapixel, in bands of rows spread
over the picture, and take some 10 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 8  # pixels, the side of a JPEG block
BAND = 32  # rows looked at together; a multiple of BLOCK
BUDGET = 1 << 19  # pixels looked at in all
STEP_LIMIT = 8.0  # levels; a larger step is an edge of what is shown, and counts as this
NOISE_QUANTILE = 0.1  # share of the blocks that are taken to hold no texture
# What the quantile gives for white noise of sigma 1, by the number of channels.
NOISE_QUANTILE_OF_WHITE = {1: 0.792, 3: 0.880}

BLOCKS = (1.06, 1.16)  # blockiness from which on a picture counts as compressed, and wholly so
NOISE = (3.5, 7.0)  # the same of noise, in levels
LEAST = 0.25  # share of the nets for real pictures where no damage shows
MOST = 0.85  # share of the nets for real pictures that measured best on damaged ones

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Damage:
    """What a picture looks to have gone through.

    Attributes:
        blockiness: As :func:`blockiness`, but wherever the grid of blocks starts, for a picture may
            have been cut or turned since; up to 1.1 for pictures never compressed, NaN where it
            cannot be told.
        noise: As :func:`noise_sigma`, too low where every block is clipped; NaN where it cannot be
            told.
    """

    blockiness: float
    noise: float


def survey(strips: Iterable[Pixels], height: int, width: int) -> Damage:
    """The damage of a picture that is read by rows, in one pass that keeps half a megapixel.

    Args:
        strips: (h, W, C) from top to bottom, uint8, uint16 or float32 in [0, 1]; C is 1 gray, 2
            gray and alpha, 3 RGB, 4 RGB and alpha.
        height: Of the picture.
        width: Of the picture.
    """
    bands = [as_levels(band) for band in _cut(strips, _starts(height, width), height)]
    return Damage(
        _blockiness_anywhere([_luma(band) for band in bands]),
        _noise_sigma(bands, with_clipped=True),
    )


def denoise_for(damage: Damage) -> float:
    """The share of the nets for real pictures: from ``LEAST`` to ``MOST`` in steps of 0.05.

    It rises between the figures of clean pictures and those of JPEG 85 or noise of sigma 7. It does
    not begin at 0, for what was resized after it was compressed shows neither; ``docs/models.md``
    has the table that the ends were chosen by.
    """
    blocks = (damage.blockiness - BLOCKS[0]) / (BLOCKS[1] - BLOCKS[0])
    noise = (damage.noise - NOISE[0]) / (NOISE[1] - NOISE[0])
    worse = max((x for x in (blocks, noise) if not np.isnan(x)), default=0.0)
    return round(20 * (LEAST + (MOST - LEAST) * min(1.0, max(0.0, worse)))) / 20


def as_levels(pixels: Pixels) -> Pixels:
    """Colour (h, W, 1 or 3) in 8-bit levels, float32, without alpha."""
    colour = pixels[:, :, : 1 if pixels.shape[2] <= 2 else 3]
    most = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    return colour.astype(np.float32) * np.float32(255 / most)


def _luma(levels: Pixels) -> Pixels:
    """(h, W, C) to Y of the full range, (h, W)."""
    if levels.shape[2] == 1:
        return levels[:, :, 0]
    y: Pixels = 0.299 * levels[:, :, 0] + 0.587 * levels[:, :, 1] + 0.114 * levels[:, :, 2]
    return y


def blockiness(y: Pixels) -> float:
    """How much larger steps are at the edges of 8x8 blocks than elsewhere; 1 means no blocks.

    A step is the difference of two neighbours less the mean of the differences on both sides of it
    (the difference of slope of Minami and Zakhor 1995), so that gradients count nothing, and at
    most 8 levels of it count, so that edges of what is shown count little. Steps are averaged for
    each of the eight places in the grid, across and down; the figure is the mean at block edges
    over the median of the other seven (a comparison as in Fan and de Queiroz 2003). The grid starts
    at the picture's corner.

    Args:
        y: (H, W), in 8-bit levels.

    Returns:
        About 1 for pictures never compressed; NaN with less than 24 rows or columns, or where
        nothing but block edges has steps.
    """
    return _blockiness(list(_bands(y)))


def _blockiness(bands: list[Pixels]) -> float:
    if min(bands[0].shape) < 3 * BLOCK:
        return float("nan")
    sums, counts = _steps(bands)
    return _excess(sums.sum(0) / counts.sum(0), BLOCK - 1)


def _blockiness_anywhere(bands: list[Pixels]) -> float:
    """The same for a picture that may have been cut since: the grid starts where steps are largest.

    The geometric mean of the figures across and down; up to 1.1 for pictures never compressed.
    """
    if min(bands[0].shape) < 3 * BLOCK:
        return float("nan")
    sums, counts = _steps(bands)
    across, down = (_excess(mean, int(mean.argmax())) for mean in sums / counts)
    return float(np.sqrt(across * down))


def _steps(bands: list[Pixels]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and number of the steps at each of the eight places, across and down: (2, 8) each."""
    sums, counts = np.zeros((2, BLOCK)), np.zeros((2, BLOCK))
    for band in bands:
        for axis, plane in enumerate((band, band.T)):
            slope = np.diff(plane.astype(np.float32), axis=1)
            step = np.abs(slope[:, 1:-1] - (slope[:, :-2] + slope[:, 2:]) / 2)
            line = np.minimum(step, STEP_LIMIT).mean(0, dtype=np.float64)
            for place in range(BLOCK):
                here = line[(place - 1) % BLOCK :: BLOCK]  # line[0] lies behind pixel 1
                sums[axis, place] += here.sum() * plane.shape[0]
                counts[axis, place] += here.size * plane.shape[0]
    return sums, counts


def _excess(mean: NDArray[np.float64], edge: int) -> float:
    """The mean at ``edge`` over the median of the other seven places."""
    inside = float(np.sort(np.delete(mean, edge))[BLOCK // 2 - 1])
    if inside == 0:
        return 1.0 if mean[edge] == 0 else float("nan")
    return float(mean[edge]) / inside


def noise_sigma(pixels: Pixels) -> float:
    """Standard deviation of the noise in a picture, from its flattest blocks.

    The second difference across and down (Immerkaer 1996) takes away what is smooth; its variance
    is taken in every block of 8x8, as the mean of the channels, and of the blocks the lower tenth
    part, where there is no texture (weak textured patches as in Liu, Tanaka and Okutomi 2013).
    Blocks that touch the ends of the range and are not constant are left out: noise is clipped
    there. Noise that compression smoothed is counted as far as it is left.

    Args:
        pixels: (H, W, C) in 8-bit levels, C = 1 or 3.

    Returns:
        8-bit levels; of noise that is the same in all channels or independent in each. NaN with
        less than 10 rows or columns, or where every block is clipped.
    """
    return _noise_sigma(list(_bands(pixels)))


def _noise_sigma(bands: list[Pixels], *, with_clipped: bool = False) -> float:
    """As ``noise_sigma``; ``with_clipped`` takes clipped blocks where there are no others."""
    if min(bands[0].shape[:2]) < BLOCK + 2:
        return float("nan")
    blocks = [_block_variances(band) for band in bands]
    variances = np.concatenate([variance[~clipped] for variance, clipped in blocks])
    if variances.size == 0 and with_clipped:
        variances = np.concatenate([variance.ravel() for variance, _ in blocks])
    if variances.size == 0:
        return float("nan")
    low = float(np.quantile(variances, NOISE_QUANTILE))
    return float(np.sqrt(low)) / NOISE_QUANTILE_OF_WHITE[bands[0].shape[2]]


def _block_variances(band: Pixels) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Variance that white noise needs for each block's second differences; which are clipped."""
    rows, columns = ((side - 2) // BLOCK * BLOCK for side in band.shape[:2])
    variance = np.zeros((rows // BLOCK, columns // BLOCK))
    clipped = np.zeros(variance.shape, bool)
    for channel in range(band.shape[2]):
        plane = np.ascontiguousarray(band[: rows + 2, : columns + 2, channel])
        x = plane.astype(np.float32)
        x = x[:-2] - 2 * x[1:-1] + x[2:]
        x = x[:, :-2] - 2 * x[:, 1:-1] + x[:, 2:]
        variance += _over_blocks(np.square(x), np.add) / (36 * BLOCK**2 * band.shape[2])
        inner = plane[1:-1, 1:-1]
        clipped |= _over_blocks(inner, np.minimum) <= 0
        clipped |= _over_blocks(inner, np.maximum) >= 255
    return variance, clipped & (variance > 0)


def _over_blocks(x: Pixels, gather: np.ufunc) -> Pixels:
    """Sum, least or largest of each block: (rows, columns) -> (rows / 8, columns / 8)."""
    lines = gather.reduce(x.reshape(-1, BLOCK, x.shape[1]), axis=1)
    blocks: Pixels = gather.reduce(lines.reshape(lines.shape[0], -1, BLOCK), axis=2)
    return blocks


def _bands(x: Pixels) -> Iterator[Pixels]:
    """The whole of a small picture; of a large one bands of rows, which start at block edges."""
    return _cut([x], _starts(*x.shape[:2]), x.shape[0])


def _starts(height: int, width: int) -> list[int] | None:
    """First rows of the bands that are looked at; None: the whole picture is."""
    count = max(1, BUDGET // (width * BAND))
    if count * BAND >= height:
        return None
    return [int(start) // BLOCK * BLOCK for start in np.linspace(0, height - BAND, count)]


def _cut(strips: Iterable[Pixels], starts: list[int] | None, height: int) -> Iterator[Pixels]:
    """The bands of a picture that comes in strips of any height."""
    spans = [(0, height)] if starts is None else [(start, start + BAND) for start in starts]
    held: list[list[Pixels]] = [[] for _ in spans]
    top = 0
    for strip in strips:
        for parts, (first, last) in zip(held, spans, strict=True):
            if first < top + len(strip) and last > top:
                parts.append(strip[max(0, first - top) : last - top].copy())
        top += len(strip)
    yield from (np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in held)
