"""Whether a map of uncertainty tells the truth: its standard deviations against the true errors.

Arrays of one shape throughout: ``std`` the predicted standard deviation, ``error`` the result less
the truth, in one unit. All values count alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
NORMAL_90 = 1.6448536269514722  # a normal variable is within so many deviations in 90 % of draws


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


def coverage(std: Array, error: Array, deviations: float = NORMAL_90) -> float:
    """Share of values whose error is within ``deviations`` standard deviations, 0 to 1."""
    return float((np.abs(error) <= deviations * std).mean())
