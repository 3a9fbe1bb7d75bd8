"""Aggregates over data sets: interquartile mean, probability of improvement, performance profile."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from rnnnorm.common.estimate import Estimate
from rnnnorm.report.inference import ALPHA, UNKNOWN, wins
from rnnnorm.report.several.folders import Several
from rnnnorm.report.several.relative import Array, relative

RESAMPLES = 4000

POINTS = 201
"""Thresholds of a performance profile, from -1 to 1."""


@dataclass(frozen=True)
class Aggregate:
    """One norm against the baseline over several data sets.

    Args:
        norm: its name.
        values: label → relative improvement of each seed.
        iqm: interquartile mean of these; n is the number of data sets. No interval if some data set has one seed.
        simultaneous: the same with an interval that holds together with those of the other norms (Bonferroni).
        improvement: probability of improvement, mean over data sets.
        profile: share of runs with at least each of the thresholds, and its band; three rows of `POINTS`.
    """

    norm: str
    values: Mapping[str, Array]
    iqm: Estimate
    simultaneous: Estimate
    improvement: Estimate
    profile: Array

    @property
    def differs(self) -> bool:
        """Whether the simultaneous interval of the interquartile mean excludes 0."""
        return self.simultaneous.low > 0 or self.simultaneous.high < 0

    @property
    def runs(self) -> int:
        """How many pairs of runs the interquartile mean is over."""
        return sum(map(len, self.values.values()))


def thresholds() -> Array:
    """Thresholds τ of the performance profile, (`POINTS`,)."""
    return np.linspace(-1, 1, POINTS)


def aggregate(several: Several) -> tuple[list[Aggregate], list[str]]:
    """Aggregates of all norms but the baseline, best first, and the data sets whose metric has no common scale.

    Everything is over the data sets that have a score of the norm and of the baseline.
    """
    scaled: dict[str, dict[str, Array]] = {}
    skipped = []
    for one in several.sets:
        its = relative(one)
        if its is None:
            skipped.append(one.label)
        else:
            scaled[one.label] = its
    wanted = [
        norm
        for norm in several.norms
        if norm != several.baseline and any(norm in one.differences for one in several.sets)
    ]
    found = []
    for norm in wanted:
        values = {label: its[norm] for label, its in scaled.items() if norm in its}
        ended = [one.differences[norm].ended for one in several.sets if norm in one.differences]
        iqm, simultaneous, profile = _of_values(list(values.values()), len(wanted))
        found.append(Aggregate(norm, values, iqm, simultaneous, mean_improvement(ended), profile))
    return sorted(found, key=lambda one: -one.iqm.mean if math.isfinite(one.iqm.mean) else math.inf), skipped


def draws(seeds: Sequence[int], resamples: int = RESAMPLES) -> list[Array]:
    """Stratified bootstrap: weights of the seeds of each data set, (resamples, n), with sum 1 in each row.

    Seeds are drawn within each data set, n - 1 of n with replacement (McCarthy and Snowden 1985; Rao and Wu 1988): a
    mean then varies by s²/n. Drawing n of n, as usual, has a variance too small by (n - 1)/n, a third for three seeds.

    Args:
        seeds: n of each data set, 2 or more.
        resamples: how many times.
    """
    random = np.random.default_rng(0)
    return [random.multinomial(n - 1, [1 / n] * n, resamples) / (n - 1) for n in seeds]


def interquartile_mean(values: Array, weights: Array) -> Array:
    """Mean of the middle half of weighted values, (R,); a value across a quartile counts in part.

    Args:
        values: (N,) in ascending order.
        weights: (R, N), each row with a positive sum.
    """
    above = np.cumsum(weights, axis=1)
    above = above / above[:, -1:]
    below = np.concatenate([np.zeros((len(above), 1)), above[:, :-1]], axis=1)
    return np.asarray((np.clip(above, 0.25, 0.75) - np.clip(below, 0.25, 0.75)) @ values / 0.5)


def pooled_iqm(values: Sequence[Array], family: int = 1) -> tuple[Estimate, Estimate]:
    """Interquartile mean over all runs of all data sets, with its interval and that for `family` comparisons.

    After Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021 (arXiv
    2108.13264); all data sets have the same weight, however many seeds they have. Data sets are taken as they are,
    seeds as a sample. The interval is m ± t·e: e is the standard deviation of the stratified bootstrap of `draws`, t
    is Student's with the degrees of freedom of `effective_degrees`. In simulations with effects and noise that differ
    between data sets (two to ten, of two to ten seeds) it covers in 88 to 98 %; the percentiles of the usual bootstrap,
    which the paper uses, in 69 % (two data sets of three seeds) to 95 %.

    Args:
        values: of each data set, one per seed.
        family: comparisons that the second interval holds for together.
    """
    if not values:
        return UNKNOWN, UNKNOWN
    flat, weights = np.concatenate(values), np.concatenate([np.full(len(its), 1 / len(its)) for its in values])
    order = np.argsort(flat, kind="stable")
    mean = float(interquartile_mean(flat[order], weights[None, order])[0])
    unknown = Estimate(mean, math.nan, math.nan, len(values))
    if min(map(len, values)) < 2:
        return unknown, unknown
    drawn = np.concatenate(draws([len(its) for its in values]), axis=1)[:, order]
    error = float(interquartile_mean(flat[order], drawn).std(ddof=1))
    degrees = effective_degrees(values, flat[order], weights[order])
    if error < 1e-9:  # no spread to judge by
        return unknown, unknown
    halves = [float(-stdtrit(degrees, ALPHA / size / 2)) * error for size in (1, family)]
    ends = [(max(mean - half, -1.0), min(mean + half, 1.0)) for half in halves]
    one, all_ = (Estimate(mean, *end, len(values)) for end in ends)
    return one, all_


def effective_degrees(values: Sequence[Array], ordered: Array, weights: Array) -> float:
    """Degrees of freedom of the error of an interquartile mean, after Welch and Satterthwaite.

    (Σ v)² / Σ v²/(n - 1): v is the share of a data set in the variance, that of the mean of its values after those
    beyond the quartiles have been moved there (winsorized, after Yuen 1974). Where one noisy data set makes up the
    middle half, it is little more than its own n - 1.

    Args:
        values: of each data set, two or more.
        ordered: all of them, ascending.
        weights: of these.
    """
    above = np.cumsum(weights) / weights.sum()
    low, high = (ordered[min(int(np.searchsorted(above, q - 1e-9)), len(ordered) - 1)] for q in (0.25, 0.75))
    shares = np.array([np.clip(its, low, high).var(ddof=1) / len(its) for its in values])
    degrees = np.array([len(its) - 1 for its in values])
    if shares.sum() == 0:
        return float(degrees.min())
    return float(shares.sum() ** 2 / (shares**2 / degrees).sum())


def mean_improvement(ended: Sequence[Sequence[tuple[float, float]]]) -> Estimate:
    """Probability P(X > Y) that a run beats one of the baseline, over all pairs of runs, ties ½; mean over data sets.

    The interval is by percentiles of the stratified bootstrap of `draws`; both runs of a seed are drawn together. It is
    0 wide where all runs of one norm beat all of the other on every data set; then there is none, as for one seed. If
    that is so on most data sets it is too narrow.

    Args:
        ended: of each data set, scores of both by seed, larger is better; -∞ for a run without a score.
    """
    if not ended:
        return UNKNOWN
    tables = [wins(*zip(*its, strict=True)) for its in ended]
    mean = float(np.mean([table.mean() for table in tables]))
    if min(map(len, tables)) < 2 or all((table == table[0, 0]).all() for table in tables):
        return Estimate(mean, math.nan, math.nan, len(tables))
    drawn = [((w @ table) * w).sum(1) for w, table in zip(draws(list(map(len, tables))), tables, strict=True)]
    low, high = np.quantile(np.mean(drawn, axis=0), [ALPHA / 2, 1 - ALPHA / 2])
    return Estimate(mean, float(low), float(high), len(tables))


def performance_profile(values: Sequence[Array]) -> Array:
    """Share of runs with a relative improvement of τ or more, mean over data sets, and its 95 % band, (3, `POINTS`).

    A score distribution after Agarwal et al. 2021, the relative of Dolan and Moré's performance profile (2002) without
    a best solver. The band is pointwise, by percentiles of the stratified bootstrap; NaN if some data set has one seed.
    """
    reached = [(its[:, None] >= thresholds() - 1e-12).astype(float) for its in values]
    mean = np.mean([its.mean(0) for its in reached], axis=0)
    if min(map(len, values)) < 2:
        return np.stack([mean, np.full(POINTS, np.nan), np.full(POINTS, np.nan)])
    shares = np.mean([w @ its for w, its in zip(draws(list(map(len, values))), reached, strict=True)], axis=0)
    return np.stack([mean, *np.quantile(shares, [ALPHA / 2, 1 - ALPHA / 2], axis=0)])


def _of_values(values: Sequence[Array], family: int) -> tuple[Estimate, Estimate, Array]:
    profile = performance_profile(values) if values else np.full((3, POINTS), np.nan)
    return *pooled_iqm(values, family), profile
