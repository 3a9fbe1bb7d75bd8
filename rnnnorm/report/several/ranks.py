"""Average ranks over data sets, with the Friedman test and Nemenyi's critical difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rnnnorm.report.inference import ALPHA
from rnnnorm.report.several.folders import DataSet, Several

Array = NDArray[Any]

TESTED_SETS = 6
"""Data sets from which on ranks are tested: with five, a sign or signed-rank test has no p below 0.0625."""

PERMUTATIONS = 20_000


@dataclass(frozen=True)
class Ranks:
    """Ranks of the norms that have a score on all data sets.

    Args:
        norms: these.
        labels: the data sets.
        ranks: 1 for the best, ties averaged, (data sets, norms).
        p: of the Friedman test; NaN if there are too few data sets for a test.
        critical: Nemenyi's critical difference of average ranks; NaN unless the Friedman test rejects.
    """

    norms: tuple[str, ...]
    labels: tuple[str, ...]
    ranks: Array
    p: float = math.nan
    critical: float = math.nan

    @property
    def means(self) -> dict[str, float]:
        """Norm → average rank."""
        return dict(zip(self.norms, map(float, self.ranks.mean(0)), strict=True)) if self.norms else {}


def rank(several: Several) -> Ranks:
    """Rank the norms on each data set by their mean score; a norm with a diverged run without a score is last."""
    sets = [one for one in several.sets if one.summary.ranked]
    norms = tuple(norm for norm in several.norms if all(_known(one, norm) for one in sets))
    if len(norms) < 2:
        return Ranks((), (), np.zeros((0, 0)))
    scores = np.array([[_score(one, norm) for norm in norms] for one in sets])
    ranks = stats.rankdata(-scores, axis=1)
    labels = tuple(one.label for one in sets)
    if len(sets) < TESTED_SETS:
        return Ranks(norms, labels, ranks)
    p = friedman(ranks)
    tested = p < ALPHA and len(norms) > 2
    return Ranks(norms, labels, ranks, p, critical_difference(len(norms), len(sets)) if tested else math.nan)


def friedman(ranks: Array) -> float:
    """P value of the Friedman test by permutation of the ranks within each data set.

    The statistic is the sum of squared deviations of the rank sums; its usual χ² approximation needs more than ten data
    sets (Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006).

    Args:
        ranks: (data sets, norms).
    """
    random = np.random.default_rng(0)
    sums = np.zeros((PERMUTATIONS, ranks.shape[1]))
    for row in ranks:
        sums += random.permuted(np.broadcast_to(row, sums.shape), axis=1)
    observed = float(((ranks.sum(0) - ranks.sum() / ranks.shape[1]) ** 2).sum())
    drawn = ((sums - ranks.sum() / ranks.shape[1]) ** 2).sum(1)
    return float((1 + (drawn >= observed - 1e-9).sum()) / (1 + PERMUTATIONS))


def critical_difference(norms: int, sets: int) -> float:
    """Nemenyi's critical difference of average ranks, q √(k (k + 1) / (6 N)); q is the studentized range's over √2.

    Args:
        norms: k.
        sets: N.
    """
    q = float(stats.studentized_range.ppf(1 - ALPHA, norms, np.inf)) / math.sqrt(2)
    return q * math.sqrt(norms * (norms + 1) / (6 * sets))


def groups(found: Ranks) -> list[tuple[str, ...]]:
    """Largest groups of norms whose average ranks differ by less than the critical difference, best first."""
    if math.isnan(found.critical):
        return []
    order: Sequence[str] = sorted(found.norms, key=found.means.__getitem__)
    spans: list[tuple[str, ...]] = []
    for k, first in enumerate(order):
        its = tuple(norm for norm in order[k:] if found.means[norm] - found.means[first] < found.critical)
        if len(its) > 1 and not (spans and set(its) <= set(spans[-1])):
            spans.append(its)
    return spans


def _known(one: DataSet, norm: str) -> bool:
    return norm in one.rows and bool(one.rows[norm].headline.values)


def _score(one: DataSet, norm: str) -> float:
    """Mean score, larger is better; -∞ if a run diverged before it had one."""
    row = one.rows[norm]
    if any(math.isnan(value) for value in row.by_seed.values()):
        return -math.inf
    return row.headline.mean if one.summary.larger_is_better else -row.headline.mean
