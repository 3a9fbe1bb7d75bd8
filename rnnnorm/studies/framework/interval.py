"""Intervals over seeds that allow several looks, and values of runs that diverged."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy import stats

from rnnnorm.common.estimate import Estimate, estimate

LOOKS = (5, 10, 20, 40)
"""Numbers of seeds at which a condition is looked at; it gets no more seeds once it is decided."""
ERROR = 0.05
NOMINAL = 0.0182
"""Error of each of four looks that together err with probability `ERROR`: a constant bound, after Pocock (1977)."""


def interval(values: Iterable[float]) -> Estimate:
    """Mean of an effect over seeds with its interval at confidence 1 - `NOMINAL`.

    With values that are infinite, as the loss of a run that diverged may be, it is the median with the interval
    between two order statistics [x₍ₖ₎, x₍ₙ₊₁₋ₖ₎], k the largest with 2 P(Bin(n, ½) < k) ≤ `NOMINAL`. NaN is "not
    measured" and left out.

    Args:
        values: one per seed.

    Returns:
        The estimate; ends are NaN where so few values have no interval of that confidence.
    """
    known = np.sort([float(value) for value in values if value is not None and not math.isnan(value)])
    n = len(known)
    if n == 0 or np.isfinite(known).all():
        return estimate(known, 1 - NOMINAL)
    if n > 1 and known[0] == known[-1]:  # all are lost: as for finite values that are equal
        return Estimate(float(known[0]), float(known[0]), float(known[0]), n)
    with np.errstate(invalid="ignore"):
        middle = float(np.median(known))
    middle = 0.0 if math.isnan(middle) else middle  # half way between both infinities
    rank = int(stats.binom.ppf(NOMINAL / 2, n, 0.5))
    if stats.binom.cdf(rank - 1, n, 0.5) > NOMINAL / 2:
        rank -= 1
    if rank < 1:
        return Estimate(middle, math.nan, math.nan, n)
    return Estimate(middle, float(known[rank - 1]), float(known[n - rank]), n)


def corrected_for_looks(p: float) -> float:
    """A p value of one look as that of all four: p · `ERROR` / `NOMINAL`, at most 1."""
    return min(1.0, p * ERROR / NOMINAL)
