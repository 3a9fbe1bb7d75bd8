"""Random effects over conditions: one effect, its interval, and how much conditions differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from rnnnorm.studies.framework.interval import NOMINAL


@dataclass(frozen=True)
class Pooled:
    """The mean effect over conditions.

    Args:
        mean: μ.
        low: lower end of its interval.
        high: upper end.
        error: standard error of μ.
        spread: τ, the standard deviation of true effects between conditions.
        prediction: interval in which the true effect of a further condition lies; None with fewer than three.
        p_equal: p value of Cochran's Q: that all conditions have the same effect.
        k: how many conditions.
    """

    mean: float
    low: float
    high: float
    error: float
    spread: float
    prediction: tuple[float, float] | None
    p_equal: float
    k: int


def pool(
    effects: Sequence[float],
    errors: Sequence[float],
    shares: Sequence[float] | None = None,
    nominal: float = NOMINAL,
) -> Pooled:
    """Random-effects mean with τ² after Paule & Mandel (1982) and the interval of Hartung & Knapp (2001).

    With weights wᵢ = aᵢ/(sᵢ² + τ²), τ² is the root of Σ wᵢ (yᵢ - μ)² = k - 1, at least 0; μ = Σ wᵢ yᵢ / Σ wᵢ, its
    variance q / Σ wᵢ with q = max(1, Σ wᵢ (yᵢ - μ)² / (k - 1)), so that it is never less than without heterogeneity;
    Student's t with k - 1 degrees of freedom. The prediction interval is μ ± t(k - 2) √(τ² + var μ), after Higgins et
    al. (2009).

    Args:
        effects: yᵢ, one per condition, all in the same unit.
        errors: their standard errors sᵢ.
        shares: aᵢ, 1/m for each of m conditions measured on the same runs, so that they have one vote; k = Σ aᵢ.
        nominal: error of the intervals.

    Raises:
        ValueError: fewer than two votes, or an error that is not positive.
    """
    y, s = np.asarray(effects, dtype=float), np.asarray(errors, dtype=float)
    a = np.ones(len(y)) if shares is None else np.asarray(shares, dtype=float)
    k = round(float(a.sum()))
    if k < 2 or len(y) != len(s) or not (s > 0).all():
        raise ValueError(f"expected two or more effects with positive errors, got {list(effects)}, {list(errors)}")

    def weighted(between: float) -> tuple[float, float, float]:
        """μ, Σ w and Σ w (y - μ)²."""
        w = a / (s**2 + between)
        mean = float((w * y).sum() / w.sum())
        return mean, float(w.sum()), float((w * (y - mean) ** 2).sum())

    q = weighted(0.0)[2]
    between = 0.0
    if q > k - 1:
        above = float(np.var(y)) * 4 + float((s**2).max())
        between = float(optimize.brentq(lambda t: weighted(t)[2] - (k - 1), 0.0, above * k))
    mean, total, scatter = weighted(between)
    variance = max(1.0, scatter / (k - 1)) / total
    half = float(stats.t.ppf(1 - nominal / 2, k - 1)) * math.sqrt(variance)
    wide = float(stats.t.ppf(1 - nominal / 2, k - 2)) * math.sqrt(between + variance) if k > 2 else math.nan
    prediction = None if k < 3 else (mean - wide, mean + wide)
    p_equal = float(stats.chi2.sf(q, k - 1))
    return Pooled(mean, mean - half, mean + half, math.sqrt(variance), math.sqrt(between), prediction, p_equal, k)
