"""Endings of runs in words: equal steps, stopped early, cut, diverged."""

from __future__ import annotations

import math
from collections import Counter

from rnnnorm.report.numbers import listed, some
from rnnnorm.report.runs import RunResult
from rnnnorm.report.summary import Summary

PLANNED = ("max_steps", "max_epochs")


def stopped_early(run: RunResult) -> bool:
    """Whether a run finished before the steps or epochs that were planned."""
    return run.status == "finished" and run.facts.get("ended_by", PLANNED[0]) not in PLANNED


def early(summary: Summary) -> str:
    """The sentence on runs that were stopped early, by a callback or by the trainer's `max_time`; empty if none."""
    its = [run for run in summary.runs if stopped_early(run)]
    if not its:
        return ""
    items = [f"{run.name} at step {run.number('steps'):.0f} by {run.facts['ended_by']}" for run in its]
    verb = "was" if len(its) == 1 else "were"
    return f"{len(its)} of {len(summary.runs)} runs {verb} stopped early: {some(items, '; ')}."


def rising(summary: Summary) -> str:
    """The sentence on norms that were best on validation at the very end in every run; empty if none was."""
    its = [
        f"`{row.norm}`"
        for row in summary.ranked
        if all(
            run.status == "finished" and run.number("epochs") > 2 and run.number("best_step") == run.number("steps")
            for run in row.scored
        )
    ]
    if not its:
        return ""
    verb = "was" if len(its) == 1 else "were"
    often = " with every seed" if max(len(row.scored) for row in summary.ranked) > 1 else ""
    return f"{some(its, ', ')} {verb} best on validation at the very end{often}: longer training may change the order."


def scoreless(summary: Summary) -> str:
    """The sentence on finished runs whose score is not finite, and which means therefore leave out; empty if none."""
    its = [
        run.name
        for row in summary.rows
        for run in row.runs
        if run.status == "finished" and not math.isfinite(run.score(row.headline_mode, summary.metric))
    ]
    if not its:
        return ""
    verb = "has" if len(its) == 1 else "have"
    return (
        f"{len(its)} of {len(summary.runs)} runs finished but {verb} no finite test {summary.metric}, so that means "
        f"leave out what may be the worst: {some(its, ', ')}."
    )


def unequal_steps(summary: Summary) -> str:
    """The sentence on ranked norms whose finished runs took different numbers of optimizer steps; empty if none did."""
    steps = {
        row.norm: [run.number("steps") for run in row.scored if run.status == "finished"] for row in summary.ranked
    }
    spans = {norm: (min(its), max(its)) for norm, its in steps.items() if its}
    if len(set(spans.values())) < 2 and all(low == high for low, high in spans.values()):
        return ""
    usual, _ = Counter(spans.values()).most_common(1)[0]
    odd = {norm: span for norm, span in spans.items() if span != usual}
    if 2 * len(odd) < len(spans):
        items = [f"`{norm}` took {_span(span)}" for norm, span in odd.items()]
        return f"{listed(items)} optimizer steps, the {'other' if len(spans) == 2 else 'others'} {_span(usual)}."
    items = [f"{_span(span)} (`{norm}`)" for norm, span in spans.items()]
    return f"The ranked norms took different numbers of optimizer steps: {listed(items)}."


def _span(span: tuple[float, float]) -> str:
    low, high = span
    return f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"
