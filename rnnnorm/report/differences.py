"""Differences from a baseline, paired by seed, with the family of claims that a report makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from rnnnorm.common.estimate import Estimate, estimate
from rnnnorm.report.inference import ALPHA, UNKNOWN, equal, holm, improvement, p_value, simultaneous, standard_error
from rnnnorm.report.numbers import places

Scores = Mapping[str, Mapping[int, float]]
"""Norm → seed → test metric; NaN for a run that diverged before it had a score."""


@dataclass(frozen=True)
class Difference:
    """How much better one norm is than another, over the seeds for which both have a score.

    All norms of a seed start from the same weights and see the same batches, so that differences are taken seed by
    seed. Positive is better, whichever way the metric goes; units are those of the metric.

    Args:
        norm: the one.
        other: the other, mostly the baseline.
        seeds: those that both have a score for.
        values: the difference for each of them.
        ended: scores of both, larger is better, on all seeds where both runs have ended; -∞ for a run that diverged
            before it had a score.
        seedwise: mean and Student's t interval over seeds, 95 %; no interval for one seed, or where all differences are
            equal, which leaves no spread to judge by.
        family: comparisons that are corrected for together.
        p: of the two-sided t test; NaN for one seed, and for equal differences unless they are 0 (then 1).
        p_holm: the same after Holm's correction over the family; NaN for one seed.
        simultaneous: the interval that holds together with those of the family; see `inference.simultaneous`.
        sequences: the 95 % interval over test sequences, of these very networks; `UNKNOWN` where no scores by sequence
            have been kept.
        both: the 95 % interval over seeds and test sequences; see `sampling.sampled`.
        p_both: p value of the same, after Holm's correction; NaN where it is not known.
    """

    norm: str
    other: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    ended: tuple[tuple[float, float], ...]
    seedwise: Estimate = UNKNOWN
    family: int = 1
    p: float = math.nan
    p_holm: float = math.nan
    simultaneous: Estimate = UNKNOWN
    sequences: Estimate = UNKNOWN
    both: Estimate = UNKNOWN
    p_both: float = math.nan

    @property
    def differs(self) -> bool:
        """Whether a difference is shown: Holm's p value is below 0.05."""
        return self.p_holm < ALPHA

    @cached_property
    def improvement(self) -> Estimate:
        """Probability that a run of the norm beats one of the other; see `inference.improvement`."""
        return improvement(*zip(*self.ended, strict=True)) if self.ended else UNKNOWN

    @property
    def ahead(self) -> float:
        """Number of seeds on which the norm is ahead of the other, ties ½, of all where both runs have ended."""
        return sum((mine > its) + 0.5 * (mine == its) for mine, its in self.ended)

    @property
    def equal(self) -> bool:
        """Whether several seeds all have the same difference."""
        return len(self.values) > 1 and math.isnan(self.seedwise.low)


@dataclass(frozen=True)
class Differences:
    """All differences of a comparison.

    Args:
        baseline: the norm that others are compared with; empty without any score.
        others: one per other norm that has a seed in common with it, best norm first.
        best: the best norm against the runner-up; None with fewer than two norms that have a score.
    """

    baseline: str
    others: tuple[Difference, ...] = ()
    best: Difference | None = None

    @property
    def digits(self) -> int:
        """Decimals of all differences: three digits of the largest one."""
        every = self.others or ((self.best,) if self.best is not None else ())
        return places(10 * max((abs(o.seedwise.mean) for o in every if math.isfinite(o.seedwise.mean)), default=0.0))

    @property
    def seeds(self) -> int:
        """The largest number of seeds of any difference."""
        return max((len(one.seeds) for one in self.others), default=0)


def differences(scores: Scores, ranking: Sequence[str], baseline: str, larger_is_better: bool) -> Differences:
    """Compare every norm with the baseline, and the best with the runner-up.

    The family of claims: the m comparisons with the baseline for which there are two seeds or more, and, where there
    are three norms or more, that of the two best. Hypotheses of the first kind are tested by Holm's procedure with one
    place reserved for the second kind, that of the best norm by its place among all m + 1 (a closed test, so that the
    family-wise error is at most 5 % whatever the dependence). That the two best are chosen by their scores needs no
    further correction: an unadjusted two-sided test of the winner against the runner-up is a valid test of whether the
    winner is best (Hung and Fithian, "Rank verification for exponential families", Annals of Statistics 2019).

    Args:
        scores: of each norm.
        ranking: the norms that have a score, best first.
        baseline: one of them.
        larger_is_better: the direction of the metric.
    """
    others = [
        one for norm in ranking if norm != baseline and (one := _pair(scores, norm, baseline, larger_is_better)).seeds
    ]
    best = _pair(scores, ranking[0], ranking[1], larger_is_better) if len(ranking) > 1 else None
    reserved = int(len(ranking) > 2)
    tested = [one for one in others if len(one.seeds) > 1]
    family = len(tested) + reserved
    corrected = dict(zip((one.norm for one in tested), holm([one.p for one in tested], reserved), strict=True))
    others = [_corrected(one, corrected.get(one.norm, math.nan), max(family, 1)) for one in others]
    if best is not None and len(best.seeds) > 1:
        by_pair = {one.norm: one for one in others}
        if baseline in (best.norm, best.other):  # the same hypothesis
            p = by_pair[best.norm if best.other == baseline else best.other].p_holm
        else:
            *_, p = holm([*(one.p for one in tested), best.p])
        best = _corrected(best, p, family)
    return Differences(baseline, tuple(others), best)


def _pair(scores: Scores, norm: str, other: str, larger_is_better: bool) -> Difference:
    """One difference, not corrected yet."""
    sign = 1.0 if larger_is_better else -1.0
    ended = sorted(scores[norm].keys() & scores[other].keys())
    mine, its = ([sign * scores[name][seed] for seed in ended] for name in (norm, other))
    ranked = ([-math.inf if math.isnan(value) else value for value in values] for values in (mine, its))
    pairs = [(seed, a, b) for seed, a, b in zip(ended, mine, its, strict=True) if math.isfinite(a) and math.isfinite(b)]
    values = tuple(a - b for _, a, b in pairs)
    found = Difference(
        norm,
        other,
        tuple(seed for seed, _, _ in pairs),
        values,
        tuple(zip(*ranked, strict=True)),
    )
    n = len(values)
    if n == 0:
        return found
    seedwise = estimate(values)
    of = [score for _, *both in pairs for score in both]
    if n == 1 or equal(values, of):
        zero = n > 1 and equal([*values, 0.0], of)
        unknown = Estimate(seedwise.mean, math.nan, math.nan, n)
        return replace(found, seedwise=unknown, simultaneous=unknown, p=1.0 if zero else math.nan)
    return replace(found, seedwise=seedwise, p=p_value(seedwise.mean, standard_error(values), n - 1))


def _corrected(one: Difference, p: float, family: int) -> Difference:
    """The difference with a corrected p value and the interval that agrees with it."""
    one = replace(one, p_holm=p, family=family)
    if math.isnan(one.seedwise.low):
        return one
    return replace(one, simultaneous=simultaneous(one.values, family, one.differs))
