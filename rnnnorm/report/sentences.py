"""Findings of a comparison as sentences, each computed from the runs and omitted where they do not support it."""

from __future__ import annotations

import math

from rnnnorm.report.endings import early, rising, scoreless, unequal_steps
from rnnnorm.report.figures import Figures
from rnnnorm.report.lead import best, beyond, claims
from rnnnorm.report.numbers import number
from rnnnorm.report.runs import MODES
from rnnnorm.report.summary import Row, Summary
from rnnnorm.report.tables import diverged_at
from rnnnorm.report.times import Ratio

_MODE_NAMES = {
    "running": "with running averages",
    "population": "with population statistics",
    "batch": "with the statistics of the test batch",
}


def findings(figures: Figures) -> list[str]:
    """The findings, most important first; norms stand in backticks."""
    summary = figures.summary
    found = [
        *_lead(summary),
        *_diverged(summary),
        scoreless(summary),
        unequal_steps(summary),
        early(summary),
        rising(summary),
        _cut(summary),
        _open(summary),
        _mode_gap(summary),
        _loss_gap(figures),
        _cost(summary),
    ]
    return [sentence for sentence in found if sentence]


def _lead(summary: Summary) -> list[str]:
    """Differences from the baseline, the best norm, and what the finite test set adds."""
    if not summary.ranked:
        return ["No run has a test score yet."]
    row = summary.ranked[0]
    score, seeds = f"test {summary.metric} {row.headline}", len(row.headline.values)
    if summary.differences.best is None:
        over = f" over {seeds} seeds" if seeds > 1 else " (one seed)"
        return [f"`{row.norm}`: {score}{over}."]
    scale = max(abs(value) for one in summary.ranked for value in one.headline.values)
    return [
        *claims(summary.differences, summary.metric, scale),
        best(summary.differences, score, seeds),
        beyond(summary.differences, summary.units),
    ]


def _mode_gap(summary: Summary) -> str:
    """The norm whose score depends most on how batch normalization is evaluated."""
    widest: tuple[float, Row, str, str] | None = None
    for row in summary.ranked:
        means = {mode: row.scores[mode].mean for mode in MODES if row.scores[mode].values}
        if not row.batch_statistics or len(means) < 2:
            continue
        low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
        if widest is None or means[high] - means[low] > widest[0]:
            worse, better = (low, high) if summary.larger_is_better else (high, low)
            widest = (means[high] - means[low], row, worse, better)
    if widest is None:
        return ""
    gap, row, worse, better = widest
    noise = max(row.scores[worse].std, row.scores[better].std)
    if gap <= (0.0 if math.isnan(noise) else noise):
        return (
            "The widest gap between running, population and batch statistics at evaluation is "
            f"{number(gap)} (`{row.norm}`), within the standard deviation over seeds."
        )
    return (
        f"How batch normalization is evaluated matters most for `{row.norm}`: {_MODE_NAMES[worse]} it scores "
        f"{number(row.scores[worse].mean)}, {_MODE_NAMES[better]} {number(row.scores[better].mean)}."
    )


def _loss_gap(figures: Figures) -> str:
    gaps = {row.norm: figures.gaps().get(row.norm, []) for row in figures.summary.rows if row.batch_statistics}
    means = {norm: sum(its) / len(its) for norm, its in gaps.items() if its}
    if not means:
        return ""
    norm = max(means, key=means.__getitem__)
    if means[norm] <= 1.05:
        return ""
    return (
        f"At the end of training, the validation loss of `{norm}` is {means[norm]:.3g} times as large under running "
        "averages as under the statistics of the batch at hand."
    )


def _diverged(summary: Summary) -> list[str]:
    said = []
    for row in summary.rows:
        count = row.counts["diverged"]
        if count:
            steps = diverged_at(row.runs)
            at = f" at step{'s' if ',' in steps else ''} {steps}" if steps else ""
            said.append(f"`{row.norm}` diverged in {count} of {len(row.runs)} runs{at}.")
    if not said and summary.ranked and all(run.status == "finished" for run in summary.runs):
        said.append("No run diverged.")
    return said


def _cost(summary: Summary) -> str:
    times = summary.times
    ratios = {norm: ratio for norm, ratio in times.ratios.items() if norm != times.baseline and ratio.seeds > 1}
    if not ratios:
        return f"Training times are not compared: {times.doubt}." if times.doubt else ""
    slowest, fastest = (pick(ratios, key=lambda norm: ratios[norm].mean) for pick in (max, min))
    said = f"A training step took about {_times(ratios[slowest])} with `{slowest}` as with `{times.baseline}`"
    if fastest != slowest:
        said += f", {_times(ratios[fastest]).replace(' as long', '')} with `{fastest}`"
    return f"{said} ({'CPU' if times.cpu else 'wall'} time; mean and range over seeds)."


def _times(ratio: Ratio) -> str:
    return f"{ratio.mean:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) times as long"


def _cut(summary: Summary) -> str:
    cut = sum(run.status == "cut" for run in summary.runs)
    if not cut:
        return ""
    verb = "was" if cut == 1 else "were"
    return f"{cut} of {len(summary.runs)} runs {verb} cut by the time limit and {verb} not ranked."


def _open(summary: Summary) -> str:
    left = [run for run in summary.runs if run.status in ("unfinished", "unreadable")]
    if not left:
        return ""
    verb = "has" if len(left) == 1 else "have"
    return f"{len(left)} of {len(summary.runs)} runs {verb} not ended yet or cannot be read: this is a partial report."
