"""Figures of a search: scores against a tuned value, and against the number of trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from rnnnorm.common.folder_names import norm_folder
from rnnnorm.report import panels
from rnnnorm.report.canvas import LIGHT, Theme, canvas, compact, name_axes, scale, settings, small_canvas
from rnnnorm.report.colours import colour, dashes
from rnnnorm.report.curves import Array, Band
from rnnnorm.report.surface import PAGE, Surface
from rnnnorm.report.tuning import Trial, Tuning, plain

Drawn = tuple[Figure, str]
"""A figure and its alternative text."""


def sensitivity(tuning: Tuning, key: str, order: Sequence[str], theme: Theme) -> Drawn:
    """Validation score of all norms against one key.

    Draw and save it within `canvas.settings()`, as all of these.

    Args:
        tuning: the search.
        key: what is on the axis.
        order: the norms, best first; the index of a norm is its class in the page.
        theme: colours.
    """
    norms = [norm for norm in order if norm in tuning.norms]
    longest = max(len(panels.shorten(norm)) for norm in norms)
    right = int(min(26 + 5.6 * longest, 165))
    figure, axes = canvas(380, max(320, 70 + 15 * len(norms)), (46, right, 30, 42), theme)
    _scales(axes, tuning, key)
    for norm in reversed(norms):
        _draw(axes, tuning, key, norm, f"norm:{list(order).index(norm)}", theme)
    ends = {norm: band for norm in norms if (band := _last_line(axes, tuning, key, norm)) is not None}
    panels.label_ends(axes, ends, order, theme, gap=15, size=10)
    name_axes(axes, plain(key), f"validation {tuning.metric}", theme)
    return figure, f"Validation {tuning.metric} against {plain(key)}, one line per norm: {', '.join(norms)}"


def panel(tuning: Tuning, key: str, norm: str, gid: str, theme: Theme) -> Drawn:
    """Validation score of one norm against one key, the other norms behind it."""
    figure, axes = small_canvas(theme)
    _scales(axes, tuning, key)
    for other in tuning.norms:
        if other != norm and _joined(tuning, key):
            for round in range(tuning.rounds):
                trials = _finite(tuning.of(other, round), key)
                axes.plot([t.values[key] for t in trials], [t.score for t in trials], color=theme.grid, linewidth=1)
    _draw(axes, tuning, key, norm, gid, theme)
    for choice in tuning.choices:
        if choice.norm == norm and choice.values is not None:
            axes.axvline(choice.values[key], color=theme.muted, linewidth=1, linestyle=(0, (2, 2)), zorder=0)
    return figure, f"Validation {tuning.metric} of {norm} against {plain(key)}"


def budget(tuning: Tuning, order: Sequence[str], tests: Mapping[str, Sequence[float]], theme: Theme) -> Drawn:
    """Expected best validation score after k trials, and the mean test score of the final runs beside it.

    Args:
        tuning: the search.
        order: the norms, best first.
        tests: norm → test scores.
        theme: colours.
    """
    norms = [norm for norm in order if norm in tuning.norms]
    lines = {norm: _band(tuning.expected_best(norm)) for norm in norms}
    lines = {norm: line for norm, line in lines.items() if np.isfinite(line.mean).all()}
    means = {norm: float(np.mean(tests[norm])) for norm in lines if tests.get(norm)}
    longest = max((len(panels.shorten(norm)) for norm in lines), default=0)
    right = int(min(26 + 5.6 * longest, 165))
    figure, axes = canvas(380, max(320, 70 + 15 * len(norms)), (46, right, 30, 42), theme)
    ends = [*(float(line.mean[-1]) for line in lines.values()), *means.values()]
    scale(axes, [_near(np.concatenate([line.mean for line in lines.values()] or [np.zeros(0)]), ends, tuning.larger)])
    last = max((len(line.step) for line in lines.values()), default=1)
    axes.set_xlim(0.7, last + 0.9)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    for k, norm in reversed(list(enumerate(order))):
        if norm not in lines:
            continue
        line, gid = lines[norm], f"norm:{k}"
        axes.plot(line.step, line.mean, dashes(norm), color=colour(norm), linewidth=1.8, marker="o", ms=3.5, gid=gid)
        if norm in means:
            axes.plot([last + 0.5], [means[norm]], "D", color=colour(norm), markersize=6, mec=theme.paper, gid=gid)
    panels.label_ends(axes, lines, order, theme, gap=15, size=10)
    name_axes(axes, "trials", f"expected best validation {tuning.metric}", theme)
    return figure, f"Expected best validation {tuning.metric} against the number of trials: {', '.join(lines)}"


def pictures(tuning: Tuning) -> dict[str, Figure]:
    """Figures for TensorBoard by their tags."""
    with settings():
        found = {f"tuning/{key}": sensitivity(tuning, key, tuning.norms, LIGHT)[0] for key in tuning.numeric}
        found["tuning/trials"] = budget(tuning, tuning.norms, {}, LIGHT)[0]
    for figure in found.values():
        figure.set_facecolor(LIGHT.paper)
        figure.set_dpi(144)
    return found


def page_figures(
    tuning: Tuning, order: Sequence[str], tests: Mapping[str, Sequence[float]], surface: Surface = PAGE
) -> tuple[list[str], list[tuple[str, str, list[tuple[str, str, str]]]]]:
    """Inline figures of a page.

    Args:
        tuning: the search.
        order: the norms of the page, best first.
        tests: norm → test scores.
        surface: where they are drawn.

    Returns:
        large ones, and for each numeric key its name, the key, and a small one for each norm: name, colour, SVG.
    """
    norms = [norm for norm in order if norm in tuning.norms]

    def put(drawn: Drawn, key: str, name: str) -> str:
        return surface.put(drawn[0], key, drawn[1], f"tuning-{name}")

    with settings():
        large = [
            put(sensitivity(tuning, key, order, surface.theme), f"tuning-{k}", key)
            for k, key in enumerate(tuning.numeric)
        ]
        large.append(put(budget(tuning, order, tests, surface.theme), "tuning-budget", "trials"))
        small = []
        for k, key in enumerate(tuning.numeric):
            its = []
            for n, norm in enumerate(norms):
                drawn = panel(tuning, key, norm, _gid(order, norm), surface.theme)
                its.append((norm, colour(norm), put(drawn, f"tuning-{k}-{n}", f"{key}-{norm_folder(norm)}")))
            small.append((plain(key), key, its))
    return large, small


def _gid(order: Sequence[str], norm: str) -> str:
    return f"norm:{list(order).index(norm)}"


def _joined(tuning: Tuning, key: str) -> bool:
    """Whether the points are those of a curve: where several keys vary at once, they are not."""
    return len(tuning.space) == 1


def _finite(trials: Sequence[Trial], key: str) -> list[Trial]:
    return sorted((t for t in trials if math.isfinite(t.score)), key=lambda t: float(t.values[key]))


def _draw(axes: Axes, tuning: Tuning, key: str, norm: str, gid: str, theme: Theme) -> None:
    """Trials of one norm: dots, hollow if stopped at a rung, a cross at the worst end if diverged, larger if chosen."""
    paint, low = colour(norm), axes.get_ylim()[0 if tuning.larger else 1]
    for round in range(tuning.rounds):
        trials = _finite(tuning.of(norm, round), key)
        if _joined(tuning, key):
            x, y = [t.values[key] for t in trials], [t.score for t in trials]
            axes.plot(x, y, dashes(norm), color=paint, linewidth=1.6, alpha=0.9 if tuning.rounds == 1 else 0.6, gid=gid)
        for whole in (True, False):
            some = [t for t in trials if t.whole == whole and not t.chosen]
            axes.plot(
                [t.values[key] for t in some], [t.score for t in some], "o", color=paint, markersize=4,
                mfc=paint if whole else theme.paper, mew=1.2, clip_on=True, gid=gid,
            )  # fmt: skip
        lost = [t.values[key] for t in tuning.of(norm, round) if not math.isfinite(t.score)]
        axes.plot(lost, [low] * len(lost), "x", color=paint, markersize=6, mew=1.6, clip_on=False, gid=gid)
        chosen = [t for t in trials if t.chosen]
        axes.plot(
            [t.values[key] for t in chosen], [t.score for t in chosen], "o", color=paint, markersize=10,
            mec=theme.ink, mew=1.4, zorder=4, gid=gid,
        )  # fmt: skip


def _scales(axes: Axes, tuning: Tuning, key: str) -> None:
    """Axes that all norms share; the x axis is logarithmic where the key was drawn so."""
    values = [float(trial.values[key]) for trial in tuning.trials]
    low, high = min(values), max(values)
    if tuning.space[key]["kind"] == "log":
        axes.set_xscale("log")
        margin = (high / low) ** 0.04
        axes.set_xlim(low / margin, high * margin)
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(low - 0.04 * (high - low or 1), high + 0.04 * (high - low or 1))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=tuning.space[key]["kind"] == "int"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    needed = [trial.score for trial in tuning.trials if trial.chosen]
    scale(axes, [_near(np.array([trial.score for trial in tuning.trials]), needed, tuning.larger)])


def _near(scores: Array, needed: Sequence[float], larger: bool) -> Array:
    """The scores that an axis has to show: those up to four times as far from the best one as the median.

    Rates that are far too small or too large would press all the others into a line. What is needed is shown anyway.
    """
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return scores
    best = float(scores.max() if larger else scores.min())
    far = 4 * abs(float(np.median(scores)) - best)
    return np.array([*scores[abs(scores - best) <= far], *(score for score in needed if math.isfinite(score))])


def _last_line(axes: Axes, tuning: Tuning, key: str, norm: str) -> Band | None:
    """The line at whose end the name of a norm stands: that of the last round, or its chosen points.

    One that leaves the frame ends at its corner.
    """
    trials = _finite(tuning.of(norm, tuning.rounds - 1), key)
    if not trials:
        return None
    x, y = np.array([float(t.values[key]) for t in trials]), np.array([t.score for t in trials])
    low, high = sorted(axes.get_ylim())
    inside = np.clip(y, low, high)
    x[-1] = x[-1] if inside[-1] == y[-1] else axes.get_xlim()[1]
    return _line(x, inside)


def _band(values: Sequence[float]) -> Band:
    return _line(np.arange(1.0, len(values) + 1), np.array(values))


def _line(x: Array, y: Array) -> Band:
    return Band(x, y, y, y)
