"""Forest figure: the difference of each norm from the baseline, with its intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rnnnorm.report.canvas import Theme, canvas, name_axes, settings
from rnnnorm.report.colours import colour
from rnnnorm.report.differences import Difference
from rnnnorm.report.numbers import minus
from rnnnorm.report.panels import shorten
from rnnnorm.report.summary import Summary
from rnnnorm.report.surface import PAGE, Surface

LONGEST = 3.0
"""Intervals are shown up to this multiple of the largest difference of a seed: with two seeds they are endless."""


def forest(axes: Axes, found: Sequence[Difference], order: Sequence[str], theme: Theme) -> None:
    """One row per norm: a dot for the mean, a thick line for the 95 % interval, a thin one for the simultaneous one.

    The dot is filled where a difference is shown; small dots are seeds; the line at 0 is the baseline. An arrow stands
    where an interval goes on beyond the figure.

    Args:
        axes: where to draw.
        found: the differences, best first.
        order: all norms of the page; the index of a norm here is its class.
        theme: colours.
    """
    reach = LONGEST * (max(abs(value) for one in found for value in one.values) or 1.0)
    ends = [end for one in found for end in (one.simultaneous.low, one.simultaneous.high) if math.isfinite(end)]
    ends += [value for one in found for value in one.values]
    low, high = max(min(*ends, 0.0), -reach), min(max(*ends, 0.0), reach)
    margin = 0.06 * (high - low) or 0.5
    axes.set_xlim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    axes.set_ylim(-0.7, len(found) - 0.3)
    axes.grid(visible=False)
    axes.xaxis.grid(True, color=theme.grid, linewidth=1)
    axes.axvline(0.0, color=theme.muted, linewidth=1.4)
    for place, one in enumerate(found):
        y, paint, gid = float(len(found) - 1 - place), colour(one.norm), f"norm:{list(order).index(one.norm)}"
        for kind, width in ((one.simultaneous, 1.3), (one.seedwise, 4.5)):
            if math.isfinite(kind.low):
                axes.plot([kind.low, kind.high], [y, y], color=paint, linewidth=width, solid_capstyle="butt", gid=gid)
        for limit, arrow, border in (
            (one.simultaneous.low, "<", low - margin),
            (one.simultaneous.high, ">", high + margin),
        ):
            if math.isfinite(limit) and not low - margin <= limit <= high + margin:
                axes.plot([border], [y], arrow, color=paint, markersize=6, mew=0, clip_on=False, gid=gid)
        seeds = np.asarray(one.values)
        axes.plot(seeds, np.full(len(seeds), y - 0.27), "o", color=paint, markersize=3.5, alpha=0.55, mew=0, gid=gid)
        fill, edge = (paint, theme.paper) if one.differs else (theme.paper, paint)
        axes.plot([one.seedwise.mean], [y], "o", markersize=8.5, mfc=fill, mec=edge, mew=1.6, zorder=3, gid=gid)


def forest_svg(summary: Summary, width: int = 760, surface: Surface = PAGE) -> str | None:
    """The figure for a page; None if there is nothing to compare.

    Args:
        summary: the comparison.
        width: in pixels.
        surface: where it is drawn.
    """
    found = summary.differences.others
    if not found:
        return None
    longest = max(len(shorten(one.norm)) for one in found)
    with settings():
        left = int(min(14 + 6.4 * longest, 180))
        figure, axes = canvas(width, 76 + 34 * len(found), (left, 14, 30, 44), surface.theme)
        forest(axes, found, [row.norm for row in summary.rows], surface.theme)
        places = [float(len(found) - 1 - k) for k in range(len(found))]
        axes.set_yticks(places, [shorten(one.norm) for one in found])
        axes.tick_params(axis="y", labelcolor=surface.theme.ink)
        base = shorten(summary.differences.baseline)
        name_axes(axes, "better →", f"{summary.metric}: difference from {base}", surface.theme)
        means = ", ".join(f"{one.norm} {minus(f'{one.seedwise.mean:+.3g}')}" for one in found)
        label = (
            f"Difference of each norm from {summary.differences.baseline} in test {summary.metric}, better to the right"
        )
        return surface.put(figure, f"forest-{width}", f"{label}: {means}", "differences")


def _tick(value: float, _: object) -> str:
    return "0" if abs(value) < 1e-12 else minus(f"{value:+.3g}")
