"""Sampling error of the test set: differences of the same networks on other draws of its sequences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit

from rnnnorm.common.estimate import Estimate
from rnnnorm.common.sequence_scores import ATOL, FORMS, RTOL, SequenceScores
from rnnnorm.report.differences import Difference
from rnnnorm.report.inference import ALPHA, holm, standard_error
from rnnnorm.report.numbers import number
from rnnnorm.report.runs import RunResult
from rnnnorm.report.summary import Summary

Array = NDArray[Any]

UNITS = {"sequence": "test sequences", "chunk": "chunks of the test stream"}

RESAMPLES = 2000
ENTRIES = 2_000_000
"""Numbers of one block of resamples."""


@dataclass(frozen=True)
class ScoredSequences:
    """Scores of several networks on U test sequences.

    Args:
        form: of the metric; see `SequenceScores`.
        unit: what is drawn, "sequence" or "chunk".
        counts: predictions by sequence, (U,).
        sums: (norm, seed) → contributions by sequence, (U,).
    """

    form: str
    unit: str
    counts: Array
    sums: dict[tuple[str, int], Array]

    def resampled(self, resamples: int = RESAMPLES) -> dict[tuple[str, int], Array]:
        """(norm, seed) → the metric on each draw of U sequences with replacement, (`resamples`,).

        The same sequences are drawn for all networks, and the same ones at every call.
        """
        stacked = np.stack([self.counts, *self.sums.values()], axis=1).astype(np.float64)
        totals = np.concatenate([drawn @ stacked for drawn in _draws(len(self.counts), resamples)])
        with np.errstate(all="ignore"):
            values = FORMS[self.form](totals[:, 1:] / totals[:, :1])
        return dict(zip(self.sums, values.T, strict=True))


def sampled(summary: Summary) -> Summary:
    """The summary with intervals over test sequences on its differences, as far as runs have kept their scores.

    `sequences` is a percentile bootstrap over sequences, paired (both norms on the same draws, mean over seeds): what
    the difference between these very networks would be on other test sequences. `both` adds the half width of a normal
    interval with its variance v to that of the t interval over seeds, in squares: mean ± √((t s/√n)² + (1.96 √v)²).
    Drawing the seeds with replacement, too, would be much too narrow: of three seeds there are ten different draws, and
    where seeds matter most such intervals cover in 73 % of cases instead of 95 %; these cover in 94 to 99 %.
    """
    found, missing = _test_set(summary)
    if found is None:
        return replace(summary, sampling=missing)
    values = found.resampled()
    others = _over_both([_over_sequences(one, values, summary) for one in summary.differences.others], summary)
    units = f"{len(found.counts):,} {UNITS[found.unit]}"
    return replace(summary, differences=replace(summary.differences, others=tuple(others)), units=units)


def _draws(units: int, resamples: int) -> Iterator[Array]:
    """Blocks of draws, how often each unit is in them: (resamples of the block, units)."""
    random = np.random.default_rng(0)
    block = max(1, min(resamples, ENTRIES // units))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        places = random.integers(units, size=(rows, units)) + units * np.arange(rows)[:, None]
        yield np.bincount(places.ravel(), minlength=rows * units).reshape(rows, units).astype(np.float64)


def _over_sequences(one: Difference, values: dict[tuple[str, int], Array], summary: Summary) -> Difference:
    """The difference with its intervals over sequences, and over both; p is not corrected yet."""
    keys = [((one.norm, seed), (one.other, seed)) for seed in one.seeds]
    if not all(a in values and b in values for a, b in keys):
        return one
    sign = 1.0 if summary.larger_is_better else -1.0
    drawn = sign * np.mean([values[a] - values[b] for a, b in keys], axis=0)
    if not np.isfinite(drawn).all():
        return one
    low, high = np.quantile(drawn, [ALPHA / 2, 1 - ALPHA / 2])
    mean, n = one.seedwise.mean, len(one.seeds)
    one = replace(one, sequences=Estimate(mean, float(low), float(high), n))
    if math.isnan(one.seedwise.low):
        return one
    error, other = standard_error(one.values), float(drawn.std(ddof=1))
    half = half_width(ALPHA, error, n - 1, other)
    return replace(
        one, both=Estimate(mean, mean - half, mean + half, n), p_both=_p_value(abs(mean), error, n - 1, other)
    )


def half_width(p: float, error: float, degrees: int, other: float) -> float:
    """Half the width of an interval with confidence 1 - p over two sources of error, one of them known by few values.

    Args:
        p: from 0 to 1; infinitely wide at 0, without width at 1.
        error: standard error, estimated with few degrees of freedom.
        degrees: these.
        other: standard error of the other source, known well.
    """
    return math.hypot(float(-stdtrit(degrees, p / 2)) * error, float(-ndtri(p / 2)) * other)


def _p_value(mean: float, error: float, degrees: int, other: float) -> float:
    """The smallest p with 0 outside of the interval of `half_width`."""
    smallest = 1e-12
    if half_width(smallest, error, degrees, other) < mean:
        return smallest
    return float(brentq(lambda p: half_width(p, error, degrees, other) - mean, smallest, 1.0))


def _over_both(others: list[Difference], summary: Summary) -> list[Difference]:
    """The same with p values corrected in the family of the claims."""
    tested = [one for one in others if len(one.seeds) > 1]
    reserved = int(len(summary.ranked) > 2)
    corrected = holm([one.p_both for one in tested], reserved)
    by_norm = dict(zip((one.norm for one in tested), corrected, strict=True))
    return [one if math.isnan(one.p_both) else replace(one, p_both=by_norm[one.norm]) for one in others]


def _test_set(summary: Summary) -> tuple[ScoredSequences | None, str]:
    """Scores of all ranked runs by sequence, or the reason why there are none."""
    found: ScoredSequences | None = None
    reason = ""
    for row in summary.ranked:
        for run in row.scored:
            scores, problem = _read(run, summary.metric, row.headline_mode)
            reason = reason or problem
            if scores is None:
                continue
            found = found or ScoredSequences(scores.form, scores.unit, scores.counts, {})
            if (scores.form, scores.unit) != (found.form, found.unit) or not np.array_equal(
                scores.counts, found.counts
            ):
                return None, "the test sequences are not the same in all runs"
            found.sums[row.norm, run.seed] = scores.sums_by(row.headline_mode)
    return found, reason


def _read(run: RunResult, metric: str, mode: str) -> tuple[SequenceScores | None, str]:
    """Scores of a run by sequence, or why there are none."""
    path = run.folder / "test_sequences.npz"
    try:
        scores = SequenceScores.read(path)
    except OSError:
        if "ended_by" in run.facts:  # of a version that keeps them where it can
            return None, f"{metric} is no function of a mean over predictions that is known for each sequence"
        return None, "the runs are of a version that kept no scores by test sequence"
    except ValueError:
        return None, f"{run.name}/{path.name} cannot be read"
    if scores.metric != metric:
        return None, f"{run.name}/{path.name} is of another metric"
    if not np.isclose(scores.again(mode), run.score(mode, metric), rtol=RTOL, atol=ATOL):
        return None, f"{run.name}/{path.name} gives {metric} {number(scores.again(mode))}, which is that of another run"
    return scores, ""
