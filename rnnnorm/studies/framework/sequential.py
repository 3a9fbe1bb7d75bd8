"""Confirmatory runs: seeds are added where something is undecided, the most informative ones first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from rnnnorm.studies.framework.case import UNDECIDED, Case
from rnnnorm.studies.framework.interval import ERROR, LOOKS
from rnnnorm.studies.framework.measurements import collect
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.framework.verdict import Verdict, corrected

FIRST = 1000
"""First seed of a confirmatory run: smaller ones were explored, or tuned on."""
ASIDE = 0.1
"""What an undecided condition of a decided claim is worth beside one of an undecided claim."""


@dataclass
class Arm:
    """The trials of one combination of conditions, all norms and seeds, and what more seeds of it are worth.

    Args:
        study: whose.
        name: of its folder.
        trials: all that there may be.
        worth: how many undecided conditions the next look is expected to decide, per second; infinite before the
            first look, 0 if none needs it.
    """

    study: Study
    name: str
    trials: list[Trial] = field(default_factory=list)
    worth: float = 0.0

    def next(self, out: Path) -> list[Trial]:
        """The trials that are missing to the next look; none after the last one.

        Args:
            out: the folder with one folder per study.
        """
        seeds = sorted({trial.seed for trial in self.trials})
        missing = [trial for trial in self.trials if not trial.measured(out / self.study.name).is_file()]
        for look in LOOKS:
            there = [trial for trial in missing if trial.seed in seeds[:look]]
            if there:
                return there
        return []


def arms(study: Study) -> list[Arm]:
    """The arms of a study, in the order of its trials."""
    found: dict[str, Arm] = {}
    for trial in study.trials():
        found.setdefault(trial.arm, Arm(study, trial.arm)).trials.append(trial)
    return list(found.values())


Judged = tuple[pd.DataFrame, list[Verdict]]
"""Measurements of a study with what is derived from them, and its verdicts."""


def judged(study: Study, out: Path) -> Judged:
    """What has been measured of a study, with all derived quantities, and its verdicts."""
    table = collect(study.trials(), out / study.name, study.columns)
    if table.empty:
        return table, []
    derived = study.derived(table)
    return derived, [verdict for verdict in study.judged(derived) if verdict.headline.effect.n > 0]


def weigh(study: Study, found: Iterable[Arm], out: Path, known: Judged, survives: float = ERROR) -> None:
    """Set what more seeds of each arm are worth.

    A condition that would be decided by n seeds if its mean and standard deviation stayed as they are is worth 1 where
    n seeds are bought by the next look, and the ratio of both where it takes more. The same holds for a condition that
    is decided, but not clearly enough for its claim to survive the correction for the number of claims.

    Args:
        study: whose.
        found: its arms.
        out: the folder with one folder per study.
        known: its table and verdicts; see `judged`.
        survives: p value that a claim needs to survive that correction; see `surviving`.
    """
    table, verdicts = known
    cases = [] if table.empty else [*_wanting(study, table, verdicts, survives)]
    for arm in found:
        missing = arm.next(out)
        if not missing:
            arm.worth = 0.0
            continue
        seeds = sorted({trial.seed for trial in arm.trials})
        look = 1 + seeds.index(max(trial.seed for trial in missing))
        if look <= LOOKS[0]:
            arm.worth = math.inf
            continue
        gained = sum(share * min(1.0, look / needed) for there, needed, share in cases if arm.name in there)
        arm.worth = gained / sum(trial.weight for trial in missing)


def _wanting(
    study: Study, table: pd.DataFrame, verdicts: Iterable[Verdict], survives: float
) -> Iterator[tuple[set[str], float, float]]:
    """Of each condition that is not decided, or not clearly enough: its arms, the seeds it would take, its share."""
    of_trials, one_each = study.of_trials, {trial.arm: trial for trial in study.trials()}.values()
    fails = {verdict.claim.key for verdict in verdicts if verdict.verdict == UNDECIDED or verdict.p > survives}
    for claim in study.claims:
        share = 1.0 if claim.key in fails else ASIDE
        for contrast in claim.contrasts:
            for point, reference, case in contrast.compared(table, study.words, of_trials):
                unclear = claim.key in fails and case.p(case.standing) > survives
                if case.effect.n and case.in_scope and not case.aside and (unclear or not case.decided):
                    there = {trial.arm for trial in one_each if contrast.concerns(trial, point, reference, of_trials)}
                    yield there, _seeds(case, survives), share


def _seeds(case: Case, survives: float) -> float:
    """How many seeds would decide a case, or decide it clearly enough; infinite if that cannot be said."""
    needed = case.seeds_to_reach(survives) if case.decided else case.seeds_to_decide()
    return math.inf if needed is None else float(needed)


def p_values(verdicts: Mapping[str, list[Verdict]]) -> list[float]:
    """Those of all claims of all studies."""
    return [verdict.p for found in verdicts.values() for verdict in found]


def tally(verdicts: Mapping[str, list[Verdict]]) -> str:
    """How many claims are decided so far, corrected for their number: `23 of 72 claims decided`."""
    words = corrected([(verdict.verdict, verdict.p) for found in verdicts.values() for verdict in found])
    return f"{sum(word != UNDECIDED for word in words)} of {len(words)} claims decided"
