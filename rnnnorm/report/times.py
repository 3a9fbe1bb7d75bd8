"""Training times: what they are worth, and how norms compare by them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from rnnnorm.report.runs import RunResult

STEADY = 1.3
"""Times of one norm that differ by more than this factor between seeds say little about the norm."""


@dataclass(frozen=True)
class Ratio:
    """Time of a training step as a multiple of the baseline's, seed by seed: the mean and its range."""

    mean: float
    low: float
    high: float
    seeds: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} ×" + (f" ({self.low:.2f}–{self.high:.2f})" if self.seeds > 1 else "")


@dataclass(frozen=True)
class Times:
    """Training times of the finished runs of a comparison.

    Args:
        baseline: what ratios are to.
        seconds: norm → mean wall time of training, NaN without a finished run.
        ratios: norm → ratio of the times per step; empty where `doubt` says why.
        cpu: whether ratios are of CPU time, which other programs on the machine disturb less than wall time. It is
            taken where all runs have recorded it and trained on the CPU.
        doubt: why there are no ratios; empty if there are.
    """

    baseline: str
    seconds: Mapping[str, float]
    ratios: Mapping[str, Ratio]
    cpu: bool
    doubt: str

    @staticmethod
    def of(runs: Sequence[RunResult], baseline: str) -> Times:
        """Times of runs. A diverged run stopped early and one that was cut is not done: neither counts.

        Args:
            runs: of the comparison.
            baseline: what ratios are to.
        """
        finished = [run for run in runs if run.status == "finished" and run.number("seconds") > 0]
        norms = dict.fromkeys(run.norm for run in runs)
        seconds = {norm: _mean([run.number("seconds") for run in finished if run.norm == norm]) for norm in norms}
        cpu = all(run.number("cpu_seconds") > 0 and run.facts.get("device") == "cpu" for run in finished)
        key = "cpu_seconds" if cpu else "seconds"
        steps: dict[str, dict[int, float]] = {norm: {} for norm in norms}
        for run in finished:
            if run.number("steps") > 0:
                steps[run.norm][run.seed] = run.number(key) / run.number("steps")
        doubt = _doubt(finished, steps)
        ratios = {} if doubt or baseline not in steps else _ratios(steps, baseline)
        return Times(baseline, seconds, ratios, cpu and bool(finished), doubt)


def _doubt(finished: Sequence[RunResult], steps: Mapping[str, Mapping[int, float]]) -> str:
    """Why times say little; empty if they say something."""
    jobs = max((run.number("jobs") for run in finished if run.number("jobs") > 1), default=0)
    if jobs:
        return f"{jobs:.0f} runs shared the machine"
    spread = {norm: max(its.values()) / min(its.values()) for norm, its in steps.items() if its}
    widest = max(spread, key=spread.__getitem__, default=None)
    if widest is not None and spread[widest] > STEADY:
        return f"a step of `{widest}` took {spread[widest]:.2f} times as long with one seed as with another"
    return ""


def _ratios(steps: Mapping[str, Mapping[int, float]], baseline: str) -> dict[str, Ratio]:
    found = {}
    for norm, its in steps.items():
        ratios = [its[seed] / steps[baseline][seed] for seed in its.keys() & steps[baseline].keys()]
        if ratios:
            found[norm] = Ratio(fmean(ratios), min(ratios), max(ratios), len(ratios))
    return found


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan
