"""Plots of a comparison, each drawn onto given axes, so that page and summary figure share them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

from rnnnorm.report.canvas import Theme, draw_band, scale, spread, steps_axis
from rnnnorm.report.colours import colour, dashes
from rnnnorm.report.curves import Array, Band
from rnnnorm.report.runs import HEADLINE
from rnnnorm.report.summary import Row

MODE_MARKERS = {"population": "o", "running": "D", "batch": "s"}
"""Population statistics are drawn filled, the other two evaluation modes hollow."""

EARLY = 4
"""Factor that losses of training span beyond which their axis is logarithmic."""


def learning_curves(
    axes: Axes,
    bands: Mapping[str, Band],
    order: Sequence[str],
    theme: Theme,
    *,
    ends: Mapping[str, Sequence[float]] | None = None,
    ticks: int = 4,
) -> None:
    """Every norm's mean over seeds in its band; a cross where all that is left of a norm has diverged.

    Args:
        axes: where to draw.
        bands: norm → its curve.
        order: all norms, best first; the best are drawn on top.
        theme: colours.
        ends: norm → the steps at which runs of it diverged.
        ticks: about how many ticks on the x axis.
    """
    scale(axes, heights(bands.values()))
    for k, norm in reversed(list(enumerate(order))):
        if norm not in bands:
            continue
        band = bands[norm]
        draw_band(axes, band, colour(norm), dashes(norm), gid=f"norm:{k}")
        for step in (ends or {}).get(norm, ()):
            value = float(np.interp(step, band.step, band.mean))
            axes.plot([step], [value], "x", color=colour(norm), markersize=7, markeredgewidth=2, gid=f"norm:{k}")
    steps_axis(axes, max((float(band.step[-1]) for band in bands.values()), default=1.0), ticks)


def heights(bands: Iterable[Band]) -> list[Array]:
    """What a vertical axis has to show: all means, and bands after the first tenth of the steps.

    One seed that starts badly would flatten all that comes later.
    """
    found = []
    for band in bands:
        late = band.step >= band.step[0] + (band.step[-1] - band.step[0]) / 10
        found += [band.mean, band.low[late], band.high[late]]
    return found


def label_ends(
    axes: Axes,
    bands: Mapping[str, Band],
    order: Sequence[str],
    theme: Theme,
    *,
    gap: float,
    size: float,
    reach: float = 16,
    rows: Mapping[str, float] | None = None,
) -> None:
    """Name each line at its end, to the right of the plot, names kept apart.

    Args:
        axes: where the lines are.
        bands: norm → its curve.
        order: all norms; the index of a norm here is its class in the page.
        theme: colours.
        gap: pixels between names.
        size: of the names.
        reach: pixels between the plot and the names.
        rows: norm → height of its name in pixels, where names must stand in given rows.
    """
    box = axes.get_window_extent()
    shown = [norm for norm in order if norm in bands]
    heights = [
        float(np.clip(axes.transData.transform((0.0, max(bands[n].mean[-1], 1e-300)))[1], box.y0, box.y1))
        if axes.get_yscale() == "log"
        else float(axes.transData.transform((0.0, bands[n].mean[-1]))[1])
        for n in shown
    ]
    placed = [rows[n] for n in shown] if rows else spread(heights, gap, box.y0 - 4, box.y1 + 4)
    right = axes.get_xlim()[1]
    for norm, height, place in zip(shown, heights, placed, strict=True):
        gid = f"norm:{list(order).index(norm)}"
        x = float(axes.transData.transform((bands[norm].step[-1], 1.0))[0]) if bands[norm].step[-1] < right else box.x1
        leader(axes, (x + 2, height), (box.x1 + reach - 3, place), box.x1, colour(norm), gid)
        text = axes.annotate(
            shorten(norm),
            (box.x1 + reach, place),
            xycoords="figure points",
            va="center_baseline",
            fontsize=size,
            color=theme.ink,
        )
        text.set_gid(gid)


def leader(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], turn: float, colour: str, gid: str
) -> None:
    """A thin line in figure points from a curve's end to its name, turning to the right of `turn`."""
    (x0, y0), (x1, y1) = start, end
    bend = max(turn, x0)
    middle = (bend + x1) / 2
    vertices = [(x0, y0), (bend, y0), (middle, y0), (middle, y1), (x1, y1)]
    codes = [Path.MOVETO, Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    line = PathPatch(
        Path(vertices, codes),
        facecolor="none",
        edgecolor=colour,
        linewidth=1,
        alpha=0.75,
        # Points, which are the pixels of a figure at 72 dpi, stay where they are when it is saved at another.
        transform=Affine2D().scale(1 / 72) + axes.figure.dpi_scale_trans,
        clip_on=False,
    )
    line.set_gid(gid)
    axes.add_patch(line)


def final_scores(axes: Axes, rows: Sequence[Row], positions: Sequence[float], theme: Theme, size: float = 10) -> None:
    """Test metric of every norm, one row each: seeds, mean ± standard deviation, and the other evaluation modes."""
    spans = [row.headline for row in rows if row.headline.values and not math.isnan(row.headline.std)]
    bars = np.array([end for one in spans for end in (one.mean - one.std, one.mean + one.std)])
    seen = [np.array(score.values) for row in rows for score in row.scores.values()]
    scale(axes, [*seen, bars], axis="x")
    low = axes.get_xlim()[0]
    for k, (row, y) in enumerate(zip(rows, positions, strict=True)):
        gid, paint, score = f"norm:{k}", colour(row.norm), row.headline
        if not score.values:
            text = axes.text(low, y, f" {row.outcome}", color=theme.muted, fontsize=size, va="center_baseline")
            text.set_gid(gid)
            continue
        if row.batch_statistics:
            means = [row.scores[mode].mean for mode in HEADLINE if row.scores[mode].values]
            axes.plot([min(means), max(means)], [y, y], color=paint, linewidth=1, alpha=0.6, gid=gid)
            for mode in HEADLINE:
                if mode != row.headline_mode and row.scores[mode].values:
                    _mark(axes, row.scores[mode].mean, y, mode, paint, theme, gid, filled=False)
        if not math.isnan(score.std):
            axes.plot([score.mean - score.std, score.mean + score.std], [y, y], color=paint, linewidth=3, gid=gid)
        axes.plot(score.values, [y] * len(score.values), "o", color=paint, markersize=4, alpha=0.45, mew=0, gid=gid)
        own = row.headline_mode if row.batch_statistics else HEADLINE[0]
        _mark(axes, score.mean, y, own, paint, theme, gid, filled=True)


def mode_legend(axes: Axes, theme: Theme, size: float = 10) -> None:
    """Legend of the evaluation modes' markers, in one line below the plot."""
    handles = [
        axes.plot([], [], MODE_MARKERS[mode], markersize=6 if mode == HEADLINE[0] else 5, mew=1.4, color=theme.muted,
                  mfc=theme.muted if mode == HEADLINE[0] else theme.paper, label=mode)[0]
        for mode in HEADLINE
    ]  # fmt: skip
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=3,
        frameon=False,
        fontsize=size,
        labelcolor=theme.muted,
        handletextpad=0.1,
        columnspacing=1.0,
        borderaxespad=2.2,
    )


def _mark(axes: Axes, x: float, y: float, mode: str, paint: str, theme: Theme, gid: str, filled: bool) -> None:
    axes.plot(
        [x], [y], MODE_MARKERS[mode], markersize=8 if filled else 5.5, color=paint, zorder=3 if filled else 2.5,
        mfc=paint if filled else theme.paper, mec=theme.paper if filled else paint, mew=1.2 if filled else 1.5, gid=gid,
    )  # fmt: skip


def statistics_gap(axes: Axes, gaps: Mapping[str, Sequence[float]], rows: Sequence[Row], positions: Sequence[float],
                   theme: Theme) -> None:  # fmt: skip
    """Last validation loss under running statistics as a multiple of that under the batch's own, one row per norm."""
    scale(axes, [np.array([1.0, *(value for its in gaps.values() for value in its)])], axis="x")
    axes.axvline(1.0, color=theme.muted, linewidth=1, linestyle=(0, (2, 2)))
    for k, (row, y) in enumerate(zip(rows, positions, strict=True)):
        its, paint, gid = list(gaps.get(row.norm, ())), colour(row.norm), f"norm:{k}"
        if not its:
            continue
        mean = float(np.mean(its))
        axes.plot([1.0, mean], [y, y], color=paint, linewidth=3, alpha=0.55, gid=gid)
        axes.plot(its, [y] * len(its), "o", color=paint, markersize=4, alpha=0.45, mew=0, gid=gid)
        axes.plot([mean], [y], "o", color=paint, markersize=8, mec=theme.paper, mew=1.2, gid=gid)


def one_of_many(axes: Axes, norm: str, gid: str, bands: Mapping[str, Band], theme: Theme) -> None:
    """One norm's curve in its band over those of all others in grey.

    Args:
        axes: where to draw.
        norm: whose curve is in front.
        gid: its class in the page.
        bands: norm → its curve.
        theme: colours.
    """
    # Logarithmic early: the large losses of the first steps would flatten all that follows.
    scale(axes, heights(bands.values()), factor=EARLY)
    for other, band in bands.items():
        if other != norm:
            axes.plot(band.step, band.mean, color=theme.grid, linewidth=1)
    draw_band(axes, bands[norm], colour(norm), dashes(norm), gid=gid)
    steps_axis(axes, max(float(band.step[-1]) for band in bands.values()), 3)


def three_modes(axes: Axes, norm: str, gid: str, own: Mapping[str, Band], running: Mapping[str, Band],
                batch: Mapping[str, Band], theme: Theme, limits: Sequence[Array]) -> None:  # fmt: skip
    """One norm's validation loss by its own stored statistics (line), by running averages (dashes) and by the batch's
    own (dots); all other norms behind it.
    """
    scale(axes, limits)
    for other, band in own.items():
        if other != norm:
            axes.plot(band.step, band.mean, color=theme.grid, linewidth=1)
    if norm in running:
        axes.plot(
            running[norm].step, running[norm].mean, linestyle=(0, (3, 2)), color=colour(norm), linewidth=1.4, gid=gid
        )
    if norm in own:
        draw_band(axes, own[norm], colour(norm), width=2, gid=gid)
    if norm in batch:
        axes.plot(batch[norm].step, batch[norm].mean, linestyle=(0, (0.2, 1.8)), dash_capstyle="round", color=theme.ink,
                  linewidth=1.6, gid=gid)  # fmt: skip
    steps_axis(axes, max((float(band.step[-1]) for band in own.values()), default=1.0), 3)


def shorten(norm: str, longest: int = 26) -> str:
    """A norm's name for a figure: the middle of very long ones left out."""
    return norm if len(norm) <= longest else f"{norm[: longest - 10]}…{norm[-9:]}"
