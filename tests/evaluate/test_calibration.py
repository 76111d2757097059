"""Rank correlation, reliability and coverage against SciPy, by hand, and on calibrated data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.tools.vae_reliability import reliability
from upscale.evaluate.scores import NORMAL_90, coverage, rank_correlation

VALUES = st.lists(st.integers(-4, 4), min_size=4, max_size=40)


@given(VALUES, st.integers(0, 1000))
def test_rank_correlation_is_spearmans_with_ties(values: list[int], seed: int) -> None:
    a = np.array(values, np.float64)
    b = np.random.default_rng(seed).integers(-3, 3, len(a)) + 0.3 * a
    if len(set(values)) == 1 or len(set(b)) == 1:
        assert math.isnan(rank_correlation(a, b))
        return
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_rank_correlation_by_hand() -> None:
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    # ranks 0 1 2 3 and 1 0 3 2: 1 - 6 * 4 / (4 * 15)
    assert rank_correlation(a, np.array([[2.0, 1.0], [4.0, 3.0]])) == pytest.approx(0.6)


def test_reliability_by_hand() -> None:
    std = np.array([3.0, 1.0, 1.0, 4.0])
    error = np.array([0.0, 2.0, 0.0, -1.0])
    low, high = reliability(std, error, bins=2)
    assert (low.count, high.count) == (2, 2)
    assert low.predicted == pytest.approx(1)
    assert low.measured == pytest.approx(math.sqrt(2))
    assert high.predicted == pytest.approx(math.sqrt(12.5))
    assert high.measured == pytest.approx(math.sqrt(0.5))


def test_calibrated_errors_lie_on_the_diagonal_and_are_covered() -> None:
    rng = np.random.default_rng(0)
    std = rng.uniform(0.01, 0.2, 100_000)
    error = std * rng.standard_normal(std.shape)
    for found in reliability(std, error):
        assert found.measured == pytest.approx(found.predicted, rel=0.03)
    assert coverage(std, error) == pytest.approx(0.9, abs=0.005)
    assert coverage(std / 2, error) == pytest.approx(
        2 * stats.norm.cdf(NORMAL_90 / 2) - 1, abs=0.01
    )


def test_coverage_by_hand() -> None:
    std, error = np.array([1.0, 1.0, 2.0, 0.5]), np.array([1.6, -1.7, 3.2, 0.9])
    assert coverage(std, error) == 0.5
    assert coverage(std, error, deviations=2.0) == 1.0


def test_more_bins_than_values_are_refused() -> None:
    with pytest.raises(ValueError, match="3 values do not fill 10 bins"):
        reliability(np.ones(3), np.ones(3))
