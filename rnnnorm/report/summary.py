"""Scores of a comparison per norm: mean and standard deviation over seeds, best first."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rnnnorm.norms.presets import presets
from rnnnorm.report.differences import Differences, differences
from rnnnorm.report.numbers import common_places, minus, number, places
from rnnnorm.report.runs import HEADLINE, MODES, RunResult
from rnnnorm.report.times import Times


@dataclass(frozen=True)
class Score:
    """Mean over seeds, sample standard deviation (NaN for one seed) and the n values themselves."""

    mean: float
    std: float
    values: tuple[float, ...]

    def __str__(self) -> str:
        return self.text(places(self.mean) if self.values else 0)

    def text(self, digits: int) -> str:
        """The score with the decimals of its column, of `common_places`; 0: in scientific notation."""
        if not self.values:
            return "–"
        mean = number(self.mean, digits)
        if math.isnan(self.std):
            return mean
        return f"{mean} ± {number(self.std, digits)}" if digits else minus(f"{self.mean:.3g} ± {self.std:.2g}")


@dataclass(frozen=True)
class Row:
    """One norm of a comparison.

    Args:
        norm: its name.
        runs: its runs, by seed.
        scores: evaluation mode → test metric, over the runs that have one. A run that diverged after its first
            checkpoint counts with its best checkpoint; one that was cut by the time limit does not count.
        metric: what it is measured by.
    """

    norm: str
    runs: tuple[RunResult, ...]
    scores: dict[str, Score]
    metric: str

    @property
    def headline(self) -> Score:
        """The score it is ranked by."""
        return self.scores[self.headline_mode]

    @property
    def headline_mode(self) -> str:
        """The evaluation mode it is ranked by: population statistics, the published protocol, for most norms.

        Running averages where training itself reads them; and the first mode there is a number for, if there are few.
        """
        own = next((str(run.facts["evaluates_by"]) for run in self.runs if run.facts.get("evaluates_by")), HEADLINE[0])
        modes = [own, *HEADLINE] if own in HEADLINE else list(HEADLINE)
        return next((mode for mode in modes if self.scores[mode].values), modes[0])

    @property
    def scored(self) -> list[RunResult]:
        """The runs that its headline is made of."""
        return [run for run in self.uncut if math.isfinite(run.score(self.headline_mode, self.metric))]

    @property
    def by_seed(self) -> dict[int, float]:
        """Score of each seed whose run has ended; NaN for one that diverged before it had a score."""
        ended = [run for run in self.runs if run.status in ("finished", "diverged")]
        return {run.seed: run.score(self.headline_mode, self.metric) for run in ended}

    @property
    def uncut(self) -> list[RunResult]:
        """Its runs without those that the time limit has cut."""
        return [run for run in self.runs if run.status != "cut"]

    @property
    def counts(self) -> Counter[str]:
        """Numbers of its runs by status."""
        return Counter(run.status for run in self.runs)

    @property
    def batch_statistics(self) -> bool:
        """True if it normalizes by batch statistics, so that the evaluation modes can differ."""
        return any(run.number("statistics") > 0 for run in self.runs)

    @property
    def outcome(self) -> str:
        """Outcome of its runs, in words: `3 finished`, `1 finished, 2 diverged`."""
        order = ("finished", "cut", "diverged", "unfinished", "unreadable")
        return ", ".join(f"{self.counts[status]} {status}" for status in order if self.counts[status])

    def mean(self, key: str) -> float:
        """The mean over runs of a scalar entry of `result.json`; NaN if none has it."""
        return _mean([run.number(key) for run in self.runs])


@dataclass(frozen=True)
class Summary:
    """A comparison.

    Args:
        rows: one per norm, best first; norms without any test score last.
        task: what kind of prediction it was; empty if no run has ended.
        metric: the name of the test metric; empty if no run has ended.
        larger_is_better: whether the best norm is the one with the largest metric.
        differences: from the baseline.
        asked: the norm that was meant to be the baseline.
        times: training times.
        units: how many test sequences there are, where the differences have intervals over them: `370 test sequences`.
        sampling: why they have none.
    """

    rows: tuple[Row, ...]
    task: str
    metric: str
    larger_is_better: bool
    differences: Differences
    asked: str
    times: Times
    units: str = ""
    sampling: str = ""

    @property
    def runs(self) -> list[RunResult]:
        """All runs, in the order of the rows."""
        return [run for row in self.rows for run in row.runs]

    @property
    def modes(self) -> tuple[str, ...]:
        """The evaluation modes that tables show beside the score: none where no norm stores statistics."""
        return MODES if any(row.batch_statistics for row in self.rows) else ()

    def scores(self, row: Row) -> list[str]:
        """The score that a norm is ranked by, and those of `modes`, with the same decimals in all rows.

        The fields of the modes are empty for a norm that stores no statistics: it has one score.
        """
        digits = common_places(one.headline.mean for one in self.ranked)
        modes = [row.scores[mode].text(digits) if row.batch_statistics else "" for mode in self.modes]
        return [row.headline.text(digits), *modes]

    def seconds(self, row: Row) -> str:
        """The wall time of training, with the same decimals in all rows."""
        return number(self.times.seconds[row.norm], common_places(self.times.seconds.values()))

    @property
    def ranked(self) -> list[Row]:
        """The rows that have a test score, best first."""
        return [row for row in self.rows if row.headline.values]


def summarize(runs: Sequence[RunResult], baseline: str = "none") -> Summary:
    """Gather the runs of one comparison per norm.

    Args:
        runs: of the comparison.
        baseline: the norm that the others are compared with. If it has no score, it is the first norm that has one in
            the order of the preset table, and then of the alphabet: an order that does not depend on the scores.

    Raises:
        ValueError: the runs were not measured by the same metric.
    """
    kinds = {
        (run.facts.get("task") or "", run.facts["metric"], run.facts["metric_mode"]): run for run in runs if run.facts
    }
    if len(kinds) > 1:
        found = "; ".join(f"{run.name}: {task} by {metric} ({mode})" for (task, metric, mode), run in kinds.items())
        raise ValueError(f"the runs of one comparison must share one task and metric, found {found}")
    task, metric, metric_mode = next(iter(kinds), ("", "", "max"))
    larger_is_better = metric_mode == "max"

    by_norm: dict[str, list[RunResult]] = {}
    for run in runs:
        by_norm.setdefault(run.norm, []).append(run)
    rows = [
        Row(norm, tuple(its), {mode: _score(its, mode, metric) for mode in MODES}, metric)
        for norm, its in by_norm.items()
    ]

    def rank(row: Row) -> tuple[float, float, str]:
        if not row.headline.values:
            return (math.inf, 0.0, row.norm)
        # Equal scores: more surviving runs first.
        return (-row.headline.mean if larger_is_better else row.headline.mean, row.counts["diverged"], row.norm)

    rows = sorted(rows, key=rank)
    ranking = [row.norm for row in rows if row.headline.values]
    chosen = baseline if baseline in ranking else min(ranking, key=_place, default="")
    compared = differences({row.norm: row.by_seed for row in rows}, ranking, chosen, larger_is_better)
    times = Times.of(runs, chosen or baseline)
    return Summary(tuple(rows), task, metric, larger_is_better, compared, baseline, times)


def _place(norm: str) -> tuple[int, str]:
    """Place of a norm in the preset table, and after it."""
    known = list(presets())
    base = norm.partition(":")[0]
    return (known.index(base) if base in known else len(known), norm)


def _score(runs: Sequence[RunResult], mode: str, metric: str) -> Score:
    values = [run.score(mode, metric) for run in runs if run.status != "cut"]
    values = [value for value in values if math.isfinite(value)]
    return Score(_mean(values), statistics.stdev(values) if len(values) > 1 else math.nan, tuple(values))


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return statistics.fmean(finite) if finite else math.nan
