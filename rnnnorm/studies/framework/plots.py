"""Panels: plots that are drawn alike into the page of a study and into its figure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from rnnnorm.report.canvas import Theme, compact, name_axes
from rnnnorm.report.colours import colour, dashes
from rnnnorm.studies.framework.selection import signed

SIZE = 12
"""Pixels of all type in a plot that is 470 pixels wide: a page shows it at 384 pixels or more, and type at 9.8."""
HEIGHT = 330
"""Pixels of a plot with its labels."""
ROW = 19
"""Pixels of a row of points, so that the names of neighbours do not touch."""
OTHERS = ("#1fa8c9", "#8a5a3c", "#df6a9a", "#83a328", "#b59a6a")
"""Colours of what is no norm, such as tasks, gains and scalings: none of them is that of a preset."""
EDGE = 14
"""Pixels between the left edge of a plot and what stands there: names of rows, the title."""


@dataclass(frozen=True)
class Panel:
    """One plot.

    Args:
        title: what the y axis shows, with its unit; it stands above the plot.
        x: what the x axis shows, with its unit.
        draw: draws onto axes in the colours of a theme; labelled artists make the legend.
        about: what there is to see, in a sentence, for readers who cannot see it.
        height: pixels of the plot with its labels.
    """

    title: str
    x: str
    draw: Callable[[Axes, Theme], None]
    about: str
    height: int = HEIGHT

    def onto(self, axes: Axes, theme: Theme, size: float = SIZE) -> None:
        """Draw the plot with its labels; it gives way to the numbers or names on its left."""
        axes.tick_params(labelsize=size)
        self.draw(axes, theme)
        name_axes(axes, self.x, self.title, theme, size)
        _make_room(axes, self.title)


def _make_room(axes: Axes, title: str) -> None:
    """Move the left end of a plot to the right of its longest label, and the title to the left edge."""
    figure = axes.figure
    if not isinstance(figure, Figure):
        return
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    place, width = axes.get_position(), figure.bbox.width
    labels = [label.get_window_extent(renderer).width for label in axes.get_yticklabels() if label.get_text()]
    usual = 62 - EDGE  # the left margin of a canvas
    more = max(0.0, max(labels, default=0.0) + 8 - usual) / width
    axes.set_position((place.x0 + more, place.y0, place.width - more, place.height))
    left = (usual / width + more) / (place.width - more)
    axes.set_title(title, loc="left", x=-left, pad=12)  # above the uppermost number, too


def lines(
    axes: Axes,
    m: pd.DataFrame,
    x: str,
    by: str = "norm",
    *,
    colours: Mapping[str, str] | None = None,
    styles: Mapping[str, str] | None = None,
    marker: str | None = "o",
    band: bool = True,
) -> None:
    """For each value of `by` the mean over seeds against `x`, in the band from the smallest to the largest seed.

    Args:
        axes: where to draw.
        m: measurements with the columns `x`, `by`, `seed` and `value`; other columns must not distinguish rows.
        x: numeric column.
        by: the column that distinguishes lines.
        colours: value → colour; by default that of the norm with which the value begins.
        styles: value → line style.
        marker: at each point; None: none.
        band: draw the band.
    """
    for value, group in m.groupby(m[by].astype(str), sort=False):
        paint = (colours or {}).get(value) or colour(value.split(",")[0])
        style = (styles or {}).get(value) or dashes(value.split(",")[0])
        summary = group.groupby(x)["value"].agg(["mean", "min", "max"]).sort_index()
        place = summary.index.to_numpy(dtype=float)
        if band and (summary["max"] > summary["min"]).any():
            axes.fill_between(place, summary["min"], summary["max"], color=paint, alpha=0.15, linewidth=0)
        look: Any = {"marker": marker, "markersize": 4, "color": paint, "linewidth": 1.8, "label": value}
        # Where lines coincide, the solid one shows through the gaps of the others.
        axes.plot(place, summary["mean"], style, zorder=2.0 if style == "-" else 2.1, **look)


def points(
    axes: Axes,
    groups: Sequence[tuple[str, Sequence[float]]],
    theme: Theme,
    *,
    colours: Mapping[str, str] | None = None,
    shift: float = 0.0,
    label: str = "",
    names: bool = True,
) -> None:
    """One row per group: seeds as small dots, their mean as a large one; first group on top, names on the left.

    Args:
        axes: where to draw.
        groups: names and values.
        theme: colours of the names and the grid.
        colours: name → colour; by default that of the norm which the name is.
        shift: how far above the middle of their row points stand, in rows.
        label: of the means, in the legend.
        names: write them.
    """
    for number, (name, values) in enumerate(groups):
        row = len(groups) - 1 - number
        paint = (colours or {}).get(name) or colour(name)
        finite = [value for value in values if math.isfinite(value)]
        axes.plot(finite, [row + shift] * len(finite), "o", color=paint, markersize=4, alpha=0.55, linestyle="none")
        if finite:
            style: Any = {"color": paint, "markersize": 9, "linestyle": "none", "label": label}
            axes.plot([float(np.mean(finite))], [row + shift], "o", **style)
    if names:
        axes.set_yticks(range(len(groups)), [broken(name) for name, _ in reversed(groups)], color=theme.ink)
    axes.set_ylim(-0.6, len(groups) - 0.4)
    axes.grid(axis="x", color=theme.grid, linewidth=1)
    axes.grid(visible=False, axis="y")


def broken(name: str, most: int = 30) -> str:
    """A name in lines of at most so many letters, as far as commas and colons are there to break it at."""
    lines = [""]
    for part in re.findall(r"[^,:]+[,:]? *|[,:] *", name):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > most:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def rule(axes: Axes, theme: Theme, y: float | None = None, x: float | None = None, text: str = "") -> None:
    """A thin line across the plot that says where something is: no change, a published number, T_max.

    Lying lines are dashed and upright ones dotted; the text stands in the legend, where it covers nothing.
    """
    look: dict[str, Any] = {"color": theme.muted, "linewidth": 1, "zorder": 1, "label": text or None}
    if y is not None:
        axes.axhline(y, linestyle="--", **look)
    if x is not None:
        axes.axvline(x, linestyle=":", **look)


def shades(names: Sequence[str], kind: Callable[[str], str] = lambda name: "") -> dict[str, str]:
    """Colours from dark to bright, in the order of the names.

    Args:
        names: of lines.
        kind: names of another kind begin with dark again.
    """
    table, found = matplotlib.colormaps["viridis"], dict[str, str]()
    for one in dict.fromkeys(map(kind, names)):
        alike = [name for name in names if kind(name) == one]
        last = max(len(alike) - 1, 1)
        found |= {name: matplotlib.colors.to_hex(table(0.05 + 0.8 * k / last)) for k, name in enumerate(alike)}
    return found


def log_axis(axes: Axes, which: str = "y", base: float = 10, numbers: Sequence[float] | None = None) -> None:
    """Make an axis logarithmic, with short numbers at its ticks.

    Args:
        axes: of the plot, drawn already.
        which: "x" or "y".
        base: 10, or 2 for batch sizes and the like, whose numbers below 1 are written as fractions.
        numbers: where the ticks stand.
    """
    (axes.set_yscale if which == "y" else axes.set_xscale)("log", base=base)
    target = axes.yaxis if which == "y" else axes.xaxis
    low, high = axes.get_ylim() if which == "y" else axes.get_xlim()
    given = [number for number in numbers or () if low <= number <= high]
    ticks = given if len(given) > 1 else _log_ticks(low, high, base)
    far = low > 0 and (high / low > 1e4 or min(ticks) < 9e-4)
    powers = all(math.isclose(math.log(tick, base), round(math.log(tick, base)), abs_tol=1e-9) for tick in ticks)
    exponent = FuncFormatter(lambda v, _: signed(f"1e{math.log10(v):.0f}") if v > 0 else "0")
    halves = FuncFormatter(lambda v, _: f"1/{compact(1 / v)}" if 0 < v < 1 else compact(v))
    short = FuncFormatter(lambda v, _: signed(compact(v)))
    target.set_major_locator(FixedLocator(ticks))
    target.set_major_formatter(halves if base == 2 and powers else exponent if far and powers else short)
    target.set_minor_locator(NullLocator())
    target.set_minor_formatter(NullFormatter())


def _log_ticks(low: float, high: float, base: float) -> list[float]:
    """Ticks of a logarithmic axis, at least two on any range: powers, else 1, 2, 5 times them, else round numbers."""
    if not 0 < low < high < math.inf:
        return [1.0]
    powers = range(math.floor(math.log(low, base)), math.ceil(math.log(high, base)) + 1)
    if base == 10 and len(powers) > 9:  # decades at round exponents
        step = next(step for step in (2, 5, 10, 20, 50, 100) if len(powers) <= 7 * step or step == 100)
        powers = range(-(-powers[0] // step) * step, powers[-1] + 1, step)
    for factors in ((1.0,), (1.0, 2.0, 5.0)) if base == 10 else ((1.0,),):
        found = [factor * base**power for power in powers for factor in factors]
        inside = [tick for tick in found if low <= tick <= high]
        if len(inside) > (2 if factors == (1.0,) and base == 10 else 1):
            return inside[:: math.ceil(len(inside) / 7)]
    return [float(tick) for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]


def linear_axis(axes: Axes, which: str = "y", integer: bool = False, ticks: int = 5) -> None:
    """An axis with few, short numbers."""
    target = axes.yaxis if which == "y" else axes.xaxis
    target.set_major_locator(MaxNLocator(ticks, integer=integer, steps=[1, 2, 2.5, 5, 10]))
    target.set_major_formatter(FuncFormatter(lambda v, _: signed(compact(v))))
