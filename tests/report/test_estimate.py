"""Means over seeds, and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rnnnorm.common.estimate import estimate


@pytest.mark.parametrize("n", [2, 3, 5, 20])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_the_interval_is_that_of_a_t_test(n: int, confidence: float) -> None:
    values = np.random.default_rng(n).normal(3, 2, n)
    found = estimate(values, confidence)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert found.n == n


def test_it_covers_the_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(1, 1, (2000, 3))
    covered = [found.low <= 1 <= found.high for found in map(estimate, draws)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_without_values_there_is_nothing() -> None:
    found = estimate([])
    assert found.n == 0
    assert all(math.isnan(value) for value in (found.mean, found.low, found.high))


def test_one_value_has_a_mean_and_no_interval() -> None:
    found = estimate([4.0])
    assert (found.mean, found.n) == (4.0, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 0.7, -1e-9, 1e12])
@pytest.mark.parametrize("n", [2, 3, 10])
def test_equal_values_have_an_interval_without_width(value: float, n: int) -> None:
    found = estimate([value] * n)
    assert (found.mean, found.low, found.high, found.n) == (value, value, value, n)


def test_values_that_are_not_finite_are_left_out() -> None:
    assert estimate([1.0, math.inf, 3.0, -math.inf, math.nan]) == estimate([1.0, 3.0])
    assert estimate([math.inf, math.nan]).n == 0


def test_it_takes_numbers_of_numpy_and_pandas() -> None:
    assert estimate(np.float32([1, 2, 3])) == estimate([1, 2, 3]) == estimate(iter((1.0, 2.0, 3.0)))
