"""Means over seeds with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % confidence interval.

    Args:
        mean: of the values.
        low: lower end; NaN with fewer than two values, which say nothing about their spread.
        high: upper end.
        n: how many values.
    """

    mean: float
    low: float
    high: float
    n: int


@lru_cache
def quantile(confidence: float, degrees: int) -> float:
    """Half the width of a two-sided interval in standard errors: Student's t.

    Args:
        confidence: of the interval.
        degrees: of freedom.
    """
    return float(stats.t.ppf((1 + confidence) / 2, degrees))


def estimate(values: Iterable[float], confidence: float = 0.95) -> Estimate:
    """Mean and Student's t interval over seeds; values that are not finite are left out."""
    finite = np.array([value for value in values if value is not None and math.isfinite(value)], dtype=np.float64)
    n = len(finite)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(finite.mean())
    if n == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    if finite.min() == finite.max():  # the mean of equal numbers need not be that number
        return Estimate(float(finite[0]), float(finite[0]), float(finite[0]), n)
    half = float(quantile(confidence, n - 1) * finite.std(ddof=1) / math.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)
