"""Findings of a comparison as sentences, each computed from the runs and omitted where they do not support it."""

from __future__ import annotations

import math

from rnnnorm.report.figures import Figures
from rnnnorm.report.runs import MODES
from rnnnorm.report.summary import Row, Summary, number
from rnnnorm.report.tables import diverged_at

_MODE_NAMES = {
    "running": "with running averages",
    "population": "with population statistics",
    "batch": "with the statistics of the test batch",
}


def findings(figures: Figures) -> list[str]:
    """The findings, most important first; norms stand in backticks."""
    summary = figures.summary
    found = [
        _best(summary),
        _plain(summary),
        _worst(summary),
        _mode_gap(summary),
        _loss_gap(figures),
        *_diverged(summary),
        _cost(summary),
        _cut(summary),
        _open(summary),
    ]
    return [sentence for sentence in found if sentence]


def _best(summary: Summary) -> str:
    if not summary.ranked:
        return "No run has a test score yet."
    best, *others = summary.ranked
    seeds = len(best.headline.values)
    over = f" over {seeds} seeds" if seeds > 1 else " (one seed)"
    said = f"`{best.norm}` did best: test {summary.metric} {best.headline}{over}"
    if not others:
        return said + "."
    margin = abs(best.headline.mean - others[0].headline.mean)
    spread = math.hypot(best.headline.std, others[0].headline.std)
    if math.isnan(spread):
        return f"{said}, ahead of `{others[0].norm}` by {number(margin)}; one seed cannot tell whether that is luck."
    if margin <= spread:
        return f"{said}; its lead of {number(margin)} over `{others[0].norm}` is within the spread of the seeds."
    return (
        f"{said}, ahead of `{others[0].norm}` by {number(margin)}, {margin / max(spread, 1e-12):.1f} times the spread."
    )


def _plain(summary: Summary) -> str:
    ranked = summary.ranked
    place = next((k for k, row in enumerate(ranked) if row.norm == "none"), None)
    if place is None or len(ranked) < 2:
        return ""
    score = ranked[place].headline
    if place == 0:
        return "No normalizer beat the plain LSTM (`none`)."
    better = f"{place} of {len(ranked) - 1} normalizers beat it" if place > 1 else "one normalizer beat it"
    return f"The plain LSTM (`none`) reached {score}; {better}."


def _worst(summary: Summary) -> str:
    ranked = summary.ranked
    if len(ranked) < 3 or ranked[-1].norm == "none":
        return ""
    return f"`{ranked[-1].norm}` came last, with {ranked[-1].headline}."


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
            "How batch normalization is evaluated hardly matters here: the widest gap between running, population and "
            f"batch statistics is {number(gap)} (`{row.norm}`), within the spread of the seeds."
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
    timed = [row for row in summary.rows if row.norm != "none" and math.isfinite(row.relative_seconds)]
    if not timed:
        return ""
    slowest, fastest = max(timed, key=_relative), min(timed, key=_relative)
    said = f"Training took {slowest.relative_seconds:.2f} times as long with `{slowest.norm}` as with `none`"
    return said + (f", {fastest.relative_seconds:.2f} times with `{fastest.norm}`." if fastest is not slowest else ".")


def _relative(row: Row) -> float:
    return row.relative_seconds


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
