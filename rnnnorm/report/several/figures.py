"""Figures over data sets: relative improvement, probability of improvement, performance profile, average ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rnnnorm.common.estimate import Estimate
from rnnnorm.report import panels
from rnnnorm.report.canvas import canvas, draw_band, name_axes, settings
from rnnnorm.report.colours import colour, dashes
from rnnnorm.report.curves import Band
from rnnnorm.report.numbers import number
from rnnnorm.report.several.aggregate import Aggregate, thresholds
from rnnnorm.report.several.folders import Several
from rnnnorm.report.several.ranks import Ranks, groups
from rnnnorm.report.surface import PAGE, Surface


@dataclass(frozen=True)
class Dot:
    """One row of a dot figure: a mean, its interval, a wider one, and single values below."""

    norm: str
    mean: float
    inner: tuple[float, float] = (math.nan, math.nan)
    outer: tuple[float, float] = (math.nan, math.nan)
    values: tuple[float, ...] = ()
    filled: bool = True


@dataclass(frozen=True)
class SeveralFigures:
    """Draws a report over several data sets.

    Args:
        several: the data sets; their norms have the order of classes in the page.
        found: aggregates, best first.
        ranks: average ranks.
        surface: where it draws.
    """

    several: Several
    found: Sequence[Aggregate]
    ranks: Ranks
    surface: Surface = PAGE

    def all(self, width: int = 760) -> dict[str, str]:
        """Every figure there is something for, by name.

        Args:
            width: of those with one row per norm, in pixels.
        """
        drawn = {
            "relative-improvement": self.improvements(width),
            "probability-of-improvement": self.probabilities(width),
            "performance-profile": self.profile(width),
            "average-ranks": self.average_ranks(width),
        }
        return {name: svg for name, svg in drawn.items() if svg is not None}

    def improvements(self, width: int) -> str | None:
        """Interquartile mean of the relative improvement of each norm; small dots are means of data sets."""
        dots = [
            Dot(one.norm, one.iqm.mean, _ends(one.iqm), _ends(one.simultaneous),
                tuple(float(its.mean()) for its in one.values.values()), one.differs)
            for one in self.found if one.values
        ]  # fmt: skip
        title = f"relative improvement over {panels.shorten(self.several.baseline)}"
        return self._dots(dots, "relative-improvement", width, title, 0.0) if dots else None

    def probabilities(self, width: int) -> str | None:
        """Probability of improvement of each norm, mean over data sets; small dots are data sets."""
        dots = []
        for one in self.found:
            its = [d.differences[one.norm].improvement.mean for d in self.several.sets if one.norm in d.differences]
            shown = one.improvement.low > 0.5 or one.improvement.high < 0.5
            dots.append(Dot(one.norm, one.improvement.mean, _ends(one.improvement), values=tuple(its), filled=shown))
        title = f"probability of beating {panels.shorten(self.several.baseline)}"
        return self._dots(dots, "probability-of-improvement", width, title, 0.5, (0.0, 1.0)) if dots else None

    def profile(self, width: int) -> str | None:
        """Share of runs with a relative improvement of at least τ, a line per norm, with pointwise bands."""
        lines = {one.norm: Band(thresholds(), *one.profile) for one in self.found if one.values}
        if not lines:
            return None
        order = self.several.norms
        with settings():
            longest = max(len(panels.shorten(norm)) for norm in lines)
            right = int(min(26 + 5.6 * longest, 165))
            figure, axes = canvas(width, 330, (38, right, 30, 44), self.surface.theme)
            axes.set_ylim(-0.03, 1.03)
            _zoom(axes, lines)
            axes.axvline(0.0, color=self.surface.theme.muted, linewidth=1.4)
            low, high = axes.get_xlim()
            for norm in reversed([norm for norm in order if norm in lines]):
                draw_band(axes, lines[norm], colour(norm), dashes(norm), gid=f"norm:{order.index(norm)}")
            ends = {norm: _within(line, low, high) for norm, line in lines.items()}
            panels.label_ends(axes, ends, order, self.surface.theme, gap=15, size=10)
            name_axes(axes, "relative improvement τ, better →", "share of runs with τ or more", self.surface.theme)
            label = f"Share of runs by relative improvement, one line per norm: {', '.join(lines)}"
            return self.surface.put(figure, f"profile-{width}", label, "performance-profile")

    def average_ranks(self, width: int) -> str | None:
        """Average rank of each norm; where ranks are tested, bars join norms that cannot be told apart."""
        means = self.ranks.means
        if not means:
            return None
        order = sorted(means, key=means.__getitem__)
        by_norm = dict(zip(self.ranks.norms, self.ranks.ranks.T, strict=True))
        dots = [Dot(norm, means[norm], values=tuple(map(float, by_norm[norm]))) for norm in order]
        return self._dots(dots, "average-ranks", width, "average rank, 1 is the best", None, (0.8, len(order) + 0.2))

    def _dots(self, dots: Sequence[Dot], key: str, width: int, title: str, rule: float | None,
              limits: tuple[float, float] | None = None) -> str:  # fmt: skip
        """One row per norm: a dot for the mean, a thick and a thin line for intervals, small dots for data sets."""
        theme, order = self.surface.theme, self.several.norms
        with settings():
            left = int(min(14 + 6.4 * max(len(panels.shorten(dot.norm)) for dot in dots), 180))
            spans = groups(self.ranks) if key == "average-ranks" else []
            figure, axes = canvas(width, 76 + 34 * len(dots), (left, 14 + 12 * len(spans), 30, 44), theme)
            axes.grid(visible=False)
            axes.xaxis.grid(True, color=theme.grid, linewidth=1)
            if rule is not None:
                axes.axvline(rule, color=theme.muted, linewidth=1.4)
            places = {dot.norm: float(len(dots) - 1 - k) for k, dot in enumerate(dots)}
            for dot in dots:
                y, paint, gid = places[dot.norm], colour(dot.norm), f"norm:{order.index(dot.norm)}"
                for ends, thick in ((dot.outer, 1.3), (dot.inner, 4.5)):
                    if math.isfinite(ends[0]):
                        axes.plot(ends, [y, y], color=paint, linewidth=thick, solid_capstyle="butt", gid=gid)
                axes.plot(
                    dot.values,
                    [y - 0.27] * len(dot.values),
                    "o",
                    color=paint,
                    ms=3.5,
                    alpha=0.55,
                    mew=0,
                    clip_on=False,
                    gid=gid,
                )
                fill, edge = (paint, theme.paper) if dot.filled else (theme.paper, paint)
                axes.plot([dot.mean], [y], "o", markersize=8.5, mfc=fill, mec=edge, mew=1.6, zorder=3, gid=gid)
            if limits is not None:
                axes.set_xlim(*limits)
            axes.set_ylim(-0.7, len(dots) - 0.3)
            for k, span in enumerate(spans):
                heights = [places[norm] for norm in span]
                x = 1.0 + (8 + 12 * k) / axes.get_window_extent().width
                axes.plot([x, x], [min(heights) - 0.2, max(heights) + 0.2], color=theme.ink, linewidth=3, clip_on=False,
                          transform=axes.get_yaxis_transform())  # fmt: skip
            axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=key == "average-ranks"))
            axes.set_yticks(list(places.values()), [panels.shorten(norm) for norm in places])
            axes.tick_params(axis="y", labelcolor=theme.ink)
            name_axes(axes, "← better" if key == "average-ranks" else "better →", title, theme)
            means = ", ".join(f"{dot.norm} {number(dot.mean)}" for dot in dots)
            return self.surface.put(figure, f"{key}-{width}", f"{title}: {means}", key)


def _zoom(axes: Axes, lines: Mapping[str, Band]) -> None:
    """Limits of the x axis: where shares change, and 0."""
    moving = np.any([(line.high > 0) & (line.low < 1) if np.isfinite(line.low).all() else
                     (line.mean > 0) & (line.mean < 1) for line in lines.values()], axis=0)  # fmt: skip
    x = np.append(thresholds()[moving], 0.0)
    margin = max(0.05 * float(x.max() - x.min()), 0.03)
    axes.set_xlim(max(float(x.min()) - margin, -1.02), min(float(x.max()) + margin, 1.02))


def _within(line: Band, low: float, high: float) -> Band:
    shown = (line.step >= low) & (line.step <= high)
    return Band(line.step[shown], line.mean[shown], line.low[shown], line.high[shown])


def _ends(found: Estimate) -> tuple[float, float]:
    return found.low, found.high
