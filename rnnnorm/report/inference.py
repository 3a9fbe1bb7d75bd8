"""Inference from few seeds: t tests, Holm's correction, the probability of improvement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from rnnnorm.common.estimate import Estimate, estimate

Array = NDArray[Any]

ALPHA = 0.05
"""Probability of any false claim in the sentences on differences; intervals have confidence 1 - ALPHA."""

UNKNOWN = Estimate(math.nan, math.nan, math.nan, 0)

ROUNDING = 1e-6
"""Scores are float32: differences that vary less than this part of the scores are equal."""

RESAMPLED_SEEDS, RESAMPLES = 5, 10_000
"""Seeds from which on the probability of improvement has an interval, and how many times they are drawn for it."""


def equal(values: Sequence[float], scores: Sequence[float]) -> bool:
    """Whether differences of scores are the same on all seeds, up to rounding.

    Args:
        values: the differences, at least one.
        scores: those they are differences of.
    """
    return max(values) - min(values) <= ROUNDING * max(map(abs, scores))


def standard_error(values: Sequence[float]) -> float:
    """The standard error of the mean of two values or more."""
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def p_value(mean: float, error: float, degrees: int) -> float:
    """Two-sided p value of Student's t test of mean 0; NaN without degrees of freedom.

    Args:
        mean: of the values.
        error: its standard error, above 0.
        degrees: of freedom.
    """
    return float(2 * stdtr(degrees, -abs(mean) / error)) if degrees > 0 else math.nan


def holm(p: Sequence[float], reserved: int = 0) -> list[float]:
    """P values corrected by Holm's step-down procedure (1979): below α, the family-wise error is at most α.

    The i-th smallest of m is multiplied by m - i + 1 + `reserved`, and is at least as large as the ones before. NaN, a
    test that could not be made, counts as 1.

    Args:
        p: one per hypothesis.
        reserved: further hypotheses of the same family, which always count as not rejected yet.
    """
    values = np.where(np.isnan(p), 1.0, p)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1) + reserved
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return [float(value) for value in corrected]


def simultaneous(values: Sequence[float], family: int, rejected: bool) -> Estimate:
    """Interval that covers together with those of the other comparisons: Student's t with Bonferroni's correction.

    All intervals of a family cover with probability 1 - ALPHA or more, whatever the dependence. Holm's procedure can
    reject where Bonferroni's would not, and has no two-sided intervals of its own; then the end that lies beyond 0 is
    moved to 0, so that a rejected hypothesis never has an interval around 0. A cut interval misses the difference only
    if that of Bonferroni does, or if the rejection is false.

    Args:
        values: differences by seed.
        family: number of comparisons.
        rejected: whether the hypothesis of no difference is rejected.
    """
    found = estimate(values, 1 - ALPHA / family)
    if not rejected or not found.low <= 0 <= found.high:
        return found
    low, high = (0.0, found.high) if found.mean > 0 else (found.low, 0.0)
    return Estimate(found.mean, low, high, found.n)


def wins(x: Sequence[float], y: Sequence[float]) -> Array:
    """Outcomes of all pairs of runs, (n of x, n of y): 1 where that of x is larger, ½ for a tie, 0 else."""
    first, second = np.asarray(x, dtype=float)[:, None], np.asarray(y, dtype=float)[None, :]
    return np.asarray((first > second) + 0.5 * (first == second))


def improvement(x: Sequence[float], y: Sequence[float]) -> Estimate:
    """Probability P(X > Y) that a run of one norm beats a run of the other: over all pairs of runs, ties ½.

    After Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021
    (arXiv 2108.13264). The interval is a bootstrap over seeds (both runs of a seed are drawn together, as they share
    weights and batches), by percentiles; there is none for fewer than `RESAMPLED_SEEDS`, which would draw hardly
    anything but themselves. It is too narrow for few seeds, and 0 wide where all runs of one norm beat all of the
    other.

    Args:
        x: scores by seed, larger is better; -∞ for a run that has no score because it diverged.
        y: those of the other norm, for the same seeds.
    """
    n = len(x)
    if n == 0:
        return UNKNOWN
    table = wins(x, y)
    share = float(table.mean())
    if n < RESAMPLED_SEEDS:
        return Estimate(share, math.nan, math.nan, n)
    drawn = np.random.default_rng(0).multinomial(n, [1 / n] * n, RESAMPLES).astype(float)
    low, high = np.quantile(((drawn @ table) * drawn).sum(1) / n**2, [ALPHA / 2, 1 - ALPHA / 2])
    return Estimate(share, float(low), float(high), n)
