"""Verdict of a comparison as a picture: which norm is best and whether that is shown, and each norm's difference."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure

from rnnnorm.report.canvas import LIGHT, canvas
from rnnnorm.report.differences import Difference
from rnnnorm.report.forest import forest
from rnnnorm.report.numbers import listed, number
from rnnnorm.report.panels import shorten
from rnnnorm.report.summary import Summary

WIDTH, HEIGHT = 326, 215
"""Pixels. TensorBoard gives a picture a box of this size and shrinks larger ones by leaving out rows of pixels."""
SIZE, LINE, LETTERS = 10, 14, (46, 55)
"""Size of type, height of a line, and how many letters a line has in bold and otherwise."""
ROWS = 7
"""How many norms there is room for."""


def verdict(summary: Summary) -> Figure:
    """The picture; draw and save it within `canvas.settings()`.

    The lead and what can be shown stand above the differences from the baseline, as in the report: a dot for the mean,
    filled where a difference is shown, a thick line for its 95 % interval, a thin one for that of all norms together.
    """
    sentences = [lead(summary), *shown(summary), *diverged(summary)]
    lines = [(line, k == 0) for k, said in enumerate(sentences) for line in textwrap.wrap(said, LETTERS[k > 0])]
    found = summary.differences.others[:ROWS]
    head = LINE * len(lines) + 6
    left = int(min(10 + 6.0 * max((len(shorten(one.norm, 20)) for one in found), default=0), 130))
    figure, axes = canvas(WIDTH, HEIGHT, (left, 8, head + 2, 30 if found else 0), LIGHT)
    figure.set_facecolor(LIGHT.paper)
    for k, (line, bold) in enumerate(lines):
        figure.text(2 / WIDTH, 1 - (1 + LINE * k) / HEIGHT, line, color=LIGHT.ink if bold else LIGHT.muted,
                    fontsize=SIZE, va="top", weight="bold" if bold else "normal")  # fmt: skip
    if not found:
        axes.set_visible(False)
        return figure
    forest(axes, found, [row.norm for row in summary.rows], LIGHT)
    axes.set_yticks([float(len(found) - 1 - k) for k in range(len(found))], [shorten(one.norm, 20) for one in found])
    axes.tick_params(axis="y", labelcolor=LIGHT.ink, labelsize=SIZE)
    axes.tick_params(axis="x", labelsize=SIZE, pad=1)
    for line_ in axes.get_lines():
        line_.set_markersize(min(line_.get_markersize(), 7.5))
    title = f"{summary.metric}, difference from {shorten(summary.differences.baseline, 20)}; better →"
    axes.set_xlabel(title, fontsize=SIZE, color=LIGHT.muted, loc="right", labelpad=1)
    return figure


def lead(summary: Summary) -> str:
    """Which norm is best, and whether it can be told from the next one."""
    if not summary.ranked:
        return "No run has a test score yet."
    row, one = summary.ranked[0], summary.differences.best
    seeds = len(row.headline.values)
    over = f"{summary.metric} {number(row.headline.mean)}, {seeds} seeds" if seeds > 1 else (
        f"{summary.metric} {number(row.headline.mean)}, one seed"
    )  # fmt: skip
    if one is None:
        return f"{row.norm}: {over}"
    if one.differs and one.seedwise.mean > 0:
        return f"{row.norm} is best ({over}), and shown to be ahead of {one.other}, the next one"
    return f"{row.norm} leads ({over}), but cannot be told apart from {one.other}"


def shown(summary: Summary) -> list[str]:
    """What is shown of the differences from the baseline."""
    found = summary.differences
    if not found.others:
        return []
    if found.seeds < 2:
        return ["One seed cannot tell a difference from luck: two at least, better five."]
    better = [one for one in found.others if one.differs and one.seedwise.mean > 0]
    worse = [one for one in found.others if one.differs and one.seedwise.mean <= 0]
    if not better and not worse:
        return [f"No difference from {found.baseline} is shown with {found.seeds} seeds."]
    said = [f"{word} {_names(its)}" for word, its in (("better:", better), ("worse:", worse)) if its]
    return [f"Shown against {found.baseline}: {'; '.join(said)}."]


def diverged(summary: Summary) -> list[str]:
    """The norms of which a run diverged, which may have no row in the picture."""
    norms = [row.norm for row in summary.rows if row.counts.get("diverged")]
    return [f"Diverged: {listed(norms) if len(norms) < 3 else f'{len(norms)} norms'}."] if norms else []


def _names(its: list[Difference]) -> str:
    return listed([one.norm for one in its]) if len(its) < 3 else f"{len(its)} norms, with filled dots"
