"""Undecided claims: how many seeds they would take, and why these were not bought."""

from __future__ import annotations

from typing import Any

from rnnnorm.studies.framework.case import MOST_SEEDS, NOT_APPLICABLE, NOT_LEARNED, UNDECIDED
from rnnnorm.studies.framework.interval import LOOKS


def seeds_and_reason(verdict: dict[str, Any]) -> tuple[str, str]:
    """The seeds that an undecided claim would take, and why they were not bought, in words.

    The seeds are those of its undecided conditions in scope, if means and standard deviations stayed as they are.

    Args:
        verdict: as in `verdict.json`, corrected for the number of claims.
    """
    scope = [case for case in verdict["conditions"] if case["in_scope"]]
    counting = [case for case in scope if case["standing"] not in (NOT_LEARNED, NOT_APPLICABLE)]
    waiting = [case for case in counting if case["standing"] == UNDECIDED]
    if not counting:
        aside = " or ".join(sorted({case["standing"] for case in scope})) or "outside the claim's scope"
        return "–", f"every condition is {aside}: other conditions are needed, not seeds"
    if "alone" in verdict:
        return _range(waiting), f"{verdict['alone']} by itself, but not after correction for the number of claims"
    if not waiting:
        return "–", "all conditions are decided, but differ, and their mean is undecided: more conditions are needed"
    return _range(waiting), "; ".join(_reasons(waiting))


def _range(waiting: list[dict[str, Any]]) -> str:
    """`55 to 3,100 (2 conditions)`, `55`, or a dash if it cannot be said."""
    known = sorted(case["seeds_to_decide"] for case in waiting if case["seeds_to_decide"])
    if not known:
        return "–"
    ends = [f"> {MOST_SEEDS:,}" if n >= MOST_SEEDS else f"{n:,}" for n in dict.fromkeys((known[0], known[-1]))]
    counted = f"{len(known)} condition{'s' if len(known) > 1 else ''}"
    return f"{' to '.join(ends)} ({counted})"


def _reasons(waiting: list[dict[str, Any]]) -> list[str]:
    """Why no more seeds were bought, with the number of conditions, the commonest reason first."""
    most = LOOKS[-1]
    counts = {"they have": 0, "too many": 0, "time": 0, "unknown": 0}
    for case in waiting:
        needed = case["seeds_to_decide"]
        if case["n"] >= most:
            counts["they have"] += 1
        elif needed is None:
            counts["unknown"] += 1
        else:
            counts["too many" if needed > most else "time"] += 1
    words = {
        "they have": f"all {most} seeds of the protocol were bought",
        "too many": f"would take more than {most}, and the time was over",
        "time": "the time was over",
        "unknown": "the number cannot be said, and the time was over",
    }
    ordered = sorted((key for key in counts if counts[key]), key=lambda key: -counts[key])
    if len(ordered) == 1:
        return [words[ordered[0]]]
    return [f"{words[key]} ({counts[key]})" for key in ordered]
