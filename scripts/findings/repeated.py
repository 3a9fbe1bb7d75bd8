"""A repetition with other seeds: which decided conditions keep their standing."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rnnnorm.studies.framework.case import DECIDED, OPPOSITE, SUPPORTED, UNDECIDED

KEPT, REVERSED, CHANGED, OPEN, ABSENT = "kept", "reversed", "changed", "undecided again", "not repeated"
OUTCOMES = (KEPT, REVERSED, CHANGED, OPEN, ABSENT)


@dataclass(frozen=True)
class Repeated:
    """One decided condition of a claim, in both runs.

    Args:
        study: whose.
        claim: its key.
        condition: in words.
        first: standing in the first run.
        n: seeds of it.
        second: standing in the repetition; empty if it was not measured there.
        m: seeds of that.
    """

    study: str
    claim: str
    condition: str
    first: str
    n: int
    second: str
    m: int

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`: reversed is supported turned opposite or the other way round."""
        if not self.second:
            return ABSENT
        if self.second == self.first:
            return KEPT
        if {self.first, self.second} == {SUPPORTED, OPPOSITE}:
            return REVERSED
        return OPEN if self.second == UNDECIDED else CHANGED


def compare(run: Mapping[str, Any], repetition: Mapping[str, Any]) -> list[Repeated]:
    """Every decided condition of the studies that were repeated.

    Args:
        run: contents of `verdict.json`, by study.
        repetition: the same of the run with other seeds.
    """
    found = []
    for name in (name for name in run if name in repetition):
        there = dict(_conditions(repetition[name]))
        for key, case in _conditions(run[name]):
            if case["standing"] in DECIDED:
                other = there.get(key, {"standing": "", "n": 0})
                found.append(Repeated(name, *key, case["standing"], case["n"], str(other["standing"]), int(other["n"])))
    return found


def _conditions(content: dict[str, Any]) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    for verdict in content["verdicts"]:
        for case in verdict["conditions"]:
            yield (verdict["key"], case["condition"]), case


def table(found: list[Repeated]) -> str:
    """How many conditions of each study have which outcome, as a Markdown table with a line of sums."""
    counts = {name: Counter(one.outcome for one in found if one.study == name) for name in {o.study: 0 for o in found}}
    rows = [*counts.items(), ("**all**", Counter(one.outcome for one in found))]
    lines = [f"| study | decided | {' | '.join(OUTCOMES)} |", f"|---|{'---:|' * (1 + len(OUTCOMES))}"]
    for name, count in rows:
        lines.append(f"| {name} | {count.total()} | {' | '.join(str(count[outcome]) for outcome in OUTCOMES)} |")
    return "\n".join(lines)


def as_csv(found: list[Repeated]) -> str:
    """Every decided condition, one per row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["study", "claim", "condition", "standing", "seeds", "repeated", "seeds repeated", "outcome"])
    for one in found:
        writer.writerow([one.study, one.claim, one.condition, one.first, one.n, one.second, one.m, one.outcome])
    return text.getvalue()


def summary(found: list[Repeated]) -> str:
    """What must hold, in a sentence: none reversed, at most one in ten decided otherwise."""
    count = Counter(one.outcome for one in found)
    again = count[KEPT] + count[REVERSED] + count[CHANGED]
    share = f", {count[CHANGED] / again:.0%} of them" if again else ""
    return (
        f"Of {count.total()} decided conditions of {len({one.study for one in found})} studies {again} were decided "
        f"again: {count[KEPT]} have the same standing, {count[CHANGED]} another one{share}, and {count[REVERSED]} are "
        f"reversed from supported to opposite or back. {count[OPEN]} are undecided in the repetition, "
        f"{count[ABSENT]} are not in it."
    )
