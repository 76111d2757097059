"""Whether a map of uncertainty tells the truth: its standard deviations against the true errors.

Arrays of one shape throughout: ``std`` the predicted standard deviation, ``error`` the result less
the truth, in one unit. All values count alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
NORMAL_90 = 1.6448536269514722  # a normal variable is within so many deviations in 90 % of draws


@dataclass(frozen=True)
class Bin:
    """Values of similar predicted deviation.

    Attributes:
        count: How many.
        predicted: Root of the mean predicted variance.
        measured: Root of the mean squared error; equal to ``predicted`` where it is calibrated.
    """

    count: int
    predicted: float
    measured: float


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's: Pearson's correlation of the ranks, ties sharing their mean rank; -1 to 1.

    NaN where one of the two is constant.
    """
    ranks_a, ranks_b = _ranks(a), _ranks(b)
    ranks_a -= ranks_a.mean()
    ranks_b -= ranks_b.mean()
    norm = np.sqrt((ranks_a**2).sum() * (ranks_b**2).sum())
    return float((ranks_a * ranks_b).sum() / norm) if norm > 0 else float("nan")


def _ranks(values: Array) -> NDArray[np.float64]:
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_rank: NDArray[np.float64] = (2 * last - counts - 1) / 2.0
    return mean_rank[index.ravel()]


def reliability(std: Array, error: Array, bins: int = 10) -> list[Bin]:
    """Bins of equal count, from the smallest predicted deviation to the largest.

    Raises:
        ValueError: Fewer values than bins.
    """
    if std.size < bins:
        raise ValueError(f"{std.size} values do not fill {bins} bins; use fewer bins")
    order = np.argsort(std, axis=None, kind="stable")
    variance = np.asarray(std, np.float64).ravel()[order] ** 2
    squared = np.asarray(error, np.float64).ravel()[order] ** 2
    return [
        Bin(len(v), float(np.sqrt(v.mean())), float(np.sqrt(s.mean())))
        for v, s in zip(np.array_split(variance, bins), np.array_split(squared, bins), strict=True)
    ]


def coverage(std: Array, error: Array, deviations: float = NORMAL_90) -> float:
    """Share of values whose error is within ``deviations`` standard deviations, 0 to 1."""
    return float((np.abs(error) <= deviations * std).mean())
