"""Sentences of a report over several data sets: findings, and notes without which its tables would be misread."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rnnnorm.report.inference import ALPHA
from rnnnorm.report.numbers import listed, p_text, signed, some
from rnnnorm.report.several.aggregate import Aggregate
from rnnnorm.report.several.folders import Several
from rnnnorm.report.several.ranks import TESTED_SETS, Ranks, groups
from rnnnorm.report.several.relative import loss_ratio

DIGITS = 3
"""Decimals of relative improvements."""


def findings(several: Several, found: Sequence[Aggregate], ranks: Ranks) -> list[str]:
    """The findings, most important first; norms stand in backticks."""
    return [*_improvements(several, found), *_by_set(several), ranks_sentence(ranks)]


def ranks_sentence(ranks: Ranks) -> str:
    """What can be said of average ranks; with few data sets, that nothing can be tested."""
    if not ranks.norms:
        return "Average ranks need two norms that have a score on every data set."
    sets, order = len(ranks.labels), sorted(ranks.norms, key=ranks.means.__getitem__)
    said = f"Average ranks: {listed([f'`{norm}` {ranks.means[norm]:.2f}' for norm in order])}"
    if math.isnan(ranks.p):
        return (
            f"{said}. With {sets} data set{'s' * (sets != 1)} no test of ranks means anything (it takes {TESTED_SETS})."
        )
    said += f" over {sets} data sets; Friedman test p {_equals(ranks.p)}"
    if not ranks.p < ALPHA:
        return f"{said}: no difference between the norms can be shown by ranks."
    if math.isnan(ranks.critical):
        return f"{said}: the two differ."
    its = [listed([f"`{norm}`" for norm in group]) for group in groups(ranks)]
    apart = f"; not to be told apart: {'; '.join(its)}" if its else "; all can be told apart"
    return f"{said}, critical difference {ranks.critical:.2f} (Nemenyi){apart}."


def score_notes(several: Several) -> list[str]:
    """Notes on the table of scores."""
    base = several.baseline
    said = [
        "Test score of the best checkpoint, mean ± standard deviation over seeds, by the statistics that each norm is "
        "ranked by; norms by their mean place.",
        f"⁺ better, ⁻ worse than {base} on that data set (paired t test, p below 0.05 after Holm's correction over its "
        "norms, not over data sets); bold: best there and better than the baseline.",
        *several.spelled,
    ]
    missing = [f"{norm} has no score on {listed(labels)}" for norm, labels in several.missing.items()]
    if missing:
        said.append(f"Used where they are: {'; '.join(missing)}.")
    absent = [one.label for one in several.sets if not one.compared]
    if absent:
        said.append(f"No score of the baseline {base} on {listed(absent)}: shown, but not part of any aggregate.")
    seeds = {one.label: max(len(row.by_seed) for row in one.summary.rows) for one in several.sets}
    if len(set(seeds.values())) > 1:
        said.append(f"Seeds: {', '.join(f'{count} on {label}' for label, count in seeds.items())}.")
    single = [label for label, count in seeds.items() if count == 1]
    if single:
        said.append(f"One seed on {listed(single)}: no interval over seeds, there or in aggregates.")
    runs = [run for one in several.sets for run in one.summary.runs]
    if any(run.status == "diverged" for run in runs):
        said.append("A diverged run counts with its best checkpoint from before, if it had one.")
    if any(run.status == "cut" for run in runs):
        said.append("Runs cut by the time limit are neither ranked nor averaged.")
    problems = [f"{one.label}/{run.problem}" for one in several.sets for run in one.summary.runs if run.problem]
    return said + ([f"{some(problems, '; ', 3)}."] if problems else [])


def aggregate_notes(several: Several, found: Sequence[Aggregate], ranks: Ranks, skipped: Sequence[str]) -> list[str]:
    """Notes on the table of aggregates."""
    base = several.baseline
    said = [
        f"Relative improvement of a run with loss L over that of {base} with the same seed, B: (B − L)/(B + L). 0: "
        "equal, +0.33: half the loss, −0.33: twice the loss, +1: no loss, −1: diverged without a score. The loss is "
        "1 − accuracy, ln perplexity, bits, nats or squared error. Its mean is the interquartile mean over all runs, "
        "data sets weighted alike; as a ratio of losses: L/B.",
        "Intervals are over seeds, drawn within each data set (t interval with the standard error of a stratified "
        "bootstrap). The data sets are taken as given: what other data sets would show is not in them. '95 %, all "
        "norms' holds for all norms together (Bonferroni); bold where it excludes 0.",
        f"P(better): the share of all pairs of runs in which that of the norm is better than that of {base}, ties ½; "
        "mean over data sets.",
    ]
    if skipped:
        said.append(
            f"Left out of the relative improvement: {listed(list(skipped))}, whose metric has no zero to measure "
            "losses from. P(better) and ranks include them."
        )
    partial = [one.norm for one in found if one.norm in several.missing]
    if partial:
        verb = "is" if len(partial) == 1 else "are"
        said.append(
            f"{listed(partial)} {verb} not on all data sets, and not to be compared with the other lines directly."
        )
    if ranks.norms:
        said.append(ranks_sentence(ranks).replace("`", ""))
    return said


def _improvements(several: Several, found: Sequence[Aggregate]) -> list[str]:
    """Which norms are better or worse than the baseline over the data sets."""
    base = f"`{several.baseline}`"
    known = [one for one in found if not math.isnan(one.simultaneous.low)]
    said = []
    for word, sign in (("Better", 1), ("Worse", -1)):
        its = [one for one in known if one.differs and sign * one.iqm.mean > 0]
        if its:
            items = [f"`{one.norm}` by {_effect(one)}" for one in its]
            said.append(f"{word} than {base} over {_sets(its)}, relative improvement: {listed(items)}.")
    open_ = [f"`{one.norm}`" for one in known if not one.differs]
    if open_:
        limit = max(max(-one.simultaneous.low, one.simultaneous.high) for one in known if not one.differs)
        said.append(
            f"No difference from {base} over the data sets can be shown for {listed(open_)}; relative improvements "
            f"beyond ±{limit:.2f} are excluded."
        )
    if not known:
        said.append(f"No interval over the data sets for differences from {base}: it takes two seeds on each of them.")
    return said


def _by_set(several: Several) -> list[str]:
    """On how many data sets each norm is shown to be better or worse than the baseline."""
    items = []
    for norm in several.norms:
        its = [one.differences[norm] for one in several.sets if norm in one.differences]
        up = sum(one.differs and one.seedwise.mean > 0 for one in its)
        down = sum(one.differs and one.seedwise.mean < 0 for one in its)
        if up or down:
            items.append(f"`{norm}` better on {up}, worse on {down} of {len(its)}")
    if not items:
        return [f"On no single data set can a norm be told apart from `{several.baseline}`."]
    return [f"Shown on single data sets: {'; '.join(items)}."]


def _effect(one: Aggregate) -> str:
    low, high = signed(one.simultaneous.low, DIGITS), signed(one.simultaneous.high, DIGITS)
    return f"{signed(one.iqm.mean, DIGITS)} ({low} to {high}; loss × {loss_ratio(one.iqm.mean):.2f})"


def _sets(its: Sequence[Aggregate]) -> str:
    counts = sorted({len(one.values) for one in its})
    return f"{listed([str(count) for count in counts])} data set{'s' * (counts != [1])}"


def _equals(p: float) -> str:
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"
