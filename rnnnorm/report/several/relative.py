"""Relative improvement: scores of any metric on one scale from -1 to 1, with the baseline at 0."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnnorm.report.several.folders import DataSet

Array = NDArray[Any]

LOGARITHMIC = "perplexity"
"""The metric whose logarithm is the loss: perplexity, nats and bits per character are the same loss in other units."""


def loss(scores: Array, metric: str, larger_is_better: bool) -> Array | None:
    """Scores as losses that are 0 for perfect predictions; None for a metric without such a zero.

    Larger is better: 1 - s, if all s are from 0 to 1 (accuracy: the share of errors). Smaller is better: s itself, or
    ln s for perplexity, if none is below 0.

    Args:
        scores: of any shape, all runs of a data set; infinite ones, of diverged runs, are infinite losses.
        metric: its name.
        larger_is_better: its direction.
    """
    finite = np.isfinite(scores)
    with np.errstate(all="ignore"):
        if larger_is_better:
            found = 1 - scores
            zero = bool((scores[finite] <= 1).all() and (scores[finite] >= 0).all())
        else:
            found = np.log(scores) if metric == LOGARITHMIC else scores
            zero = bool((found[finite] >= 0).all())
    return np.where(finite, found, np.inf) if zero else None


def relative_improvement(mine: Array, its: Array) -> Array:
    """Relative improvement z = (B - L) / (B + L) of losses L over the losses B of the baseline with the same seeds.

    It is tanh(½ ln(B / L)), a log ratio that stays finite: 0 for equal losses, +1/3 for half the loss, -1/3 for twice
    the loss, +1 for no loss at all, -1 for a run that diverged before it had a score. Two equal losses, both of them 0
    or both infinite, give 0. L/B = (1 - z) / (1 + z).

    Args:
        mine: L, not below 0; ∞ is allowed.
        its: B, of the same shape.
    """
    with np.errstate(all="ignore"):
        found = (its - mine) / (its + mine)
    found = np.where(np.isinf(mine), -1.0, np.where(np.isinf(its), 1.0, found))
    return np.where(mine == its, 0.0, found)


def loss_ratio(z: float) -> float:
    """The ratio of losses L/B that has a relative improvement: (1 - z) / (1 + z)."""
    return (1 - z) / (1 + z) if z > -1 else math.inf


def relative(one: DataSet) -> dict[str, Array] | None:
    """Norm → relative improvement on each seed on which it and the baseline have ended, (seeds,).

    None where the metric has no zero; see `loss`.
    """
    sign = 1.0 if one.summary.larger_is_better else -1.0
    found = {}
    for norm, difference in one.differences.items():
        losses = loss(sign * np.array(difference.ended), one.summary.metric, one.summary.larger_is_better)
        if losses is None:
            return None
        found[norm] = relative_improvement(losses[:, 0], losses[:, 1])
    return found
