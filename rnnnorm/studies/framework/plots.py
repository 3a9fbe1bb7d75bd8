"""Panels: plots that are drawn alike into the page of a study and into its figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from rnnnorm.report.canvas import LIGHT, THEMED, VARIABLES, Theme, canvas, compact, dress, inline, name_axes, settings
from rnnnorm.report.colours import colour, dashes

MANY = 16
"""With more rows of points their names stand beside them."""
_SIZE = (470, 330)
_MARGINS = (62, 18, 34, 46)
_LINE = 19  # pixels of a line of a legend


@dataclass(frozen=True)
class Panel:
    """One plot.

    Args:
        title: what the y axis shows, with its unit; it stands above the plot.
        x: what the x axis shows, with its unit.
        draw: draws onto axes in the colours of a theme; labelled artists make the legend.
        about: what there is to see, in a sentence, for readers who cannot see it.
    """

    title: str
    x: str
    draw: Callable[[Axes, Theme], None]
    about: str

    def onto(self, axes: Axes, theme: Theme, size: float = 11) -> None:
        """Draw the plot with its labels."""
        self.draw(axes, theme)
        name_axes(axes, self.x, self.title, theme, size)


@dataclass(frozen=True)
class Entry:
    """A line of a legend."""

    label: str
    colour: str
    style: str
    marker: str

    @property
    def paint(self) -> str:
        """The colour in a page, where those of the theme are variables."""
        return VARIABLES.get(self.colour, self.colour)

    @property
    def glyph(self) -> str:
        """What stands for it in a page where it is marks without a line, else nothing."""
        glyphs = {"D": "◆", "d": "◆", "s": "■", "^": "▲", "v": "▼", "x": "×", "*": "★"}
        return "" if self.style not in ("None", "none", "", " ") else glyphs.get(self.marker, "●")

    @property
    def dash(self) -> str:
        """The line style in a page, as `stroke-dasharray`."""
        return {"--": "7 4", "-.": "8 3 2 3", ":": "2 3"}.get(self.style, "")


def entries(axes: Iterable[Axes]) -> list[Entry]:
    """The legend of some plots: each label once, in the order of drawing."""
    found: dict[str, Entry] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            line = handle[0] if isinstance(handle, tuple | list) and handle else handle
            if isinstance(line, Line2D):
                entry = Entry(label, str(line.get_color()), str(line.get_linestyle()), str(line.get_marker()))
            else:
                face: Any = line  # a patch or a collection
                paint = matplotlib.colors.to_hex(np.atleast_2d(face.get_facecolor())[0])
                entry = Entry(label, paint, "-", "s")
            found.setdefault(label, entry)
    return list(found.values())


@dataclass(frozen=True)
class Drawn:
    """A panel as an element of a page.

    Args:
        svg: themed SVG.
        legend: what its lines mean; empty where all panels of the figure share one.
    """

    svg: str
    legend: list[Entry]


def shared(legends: Sequence[list[Entry]]) -> list[Entry]:
    """The one legend that serves all panels, if none of them contradicts it; else nothing."""
    whole: dict[str, Entry] = {}
    for legend in legends:
        for entry in legend:
            if whole.setdefault(entry.label, entry) != entry:
                return []
    looks = [(entry.colour, entry.style) for entry in whole.values()]
    return list(whole.values()) if len(set(looks)) == len(looks) and len(whole) <= 10 else []


def inline_panels(panels: Sequence[Panel], key: str) -> tuple[list[Drawn], list[Entry]]:
    """The panels for a page, and the legend they share, if they do."""
    with settings():
        drawn, legends = [], []
        for number, panel in enumerate(panels):
            figure, one = canvas(*_SIZE, _MARGINS, THEMED)
            panel.onto(one, THEMED)
            legends.append(entries([one]))
            drawn.append(inline(figure, f"{key}{number}", f"{panel.title} against {panel.x}. {panel.about}"))
    common = shared(legends)
    return [Drawn(svg, [] if common else legend) for svg, legend in zip(drawn, legends, strict=True)], common


def save_figure(panels: Sequence[Panel], folder: Path, title: str) -> list[Path]:
    """Write `figure.png` and `figure.svg`: all panels side by side, at most three in a row.

    The legend stands below all of them where they share one, else below each. Without panels nothing is written.
    """
    if not panels:
        return []
    columns = min(len(panels), 3) if len(panels) != 4 else 2
    rows = math.ceil(len(panels) / columns)
    with settings():
        legends = []
        for panel in panels:
            _, one = canvas(*_SIZE, _MARGINS, LIGHT)
            panel.onto(one, LIGHT)
            legends.append(entries([one]))
        common = shared(legends)
        below = 0 if common else 8 + _LINE * max((math.ceil(len(legend) / 2) for legend in legends), default=0)
        width, row = columns * _SIZE[0], _SIZE[1] + below
        per_line = max(1, width // 190)
        foot = 16 + _LINE * math.ceil(len(common) / per_line) if common else 0
        height = 40 + rows * row + foot
        figure = Figure(figsize=(width / 72, height / 72), dpi=72, facecolor=LIGHT.paper)
        left, right, top, bottom = _MARGINS
        for number, panel in enumerate(panels):
            x0, y1 = (number % columns) * _SIZE[0], height - 40 - (number // columns) * row
            y0 = y1 - _SIZE[1]
            place = ((x0 + left) / width, (y0 + bottom) / height)
            size = ((_SIZE[0] - left - right) / width, (_SIZE[1] - top - bottom) / height)
            one = figure.add_axes((*place, *size))
            dress(one, LIGHT)
            panel.onto(one, LIGHT)
            if not common:
                _legend(figure, legends[number], x0 + left - 8, y0, 2, width, height)
        figure.text(14 / width, 1 - 20 / height, title, color=LIGHT.ink, fontsize=15, fontweight="bold", va="center")
        if common:
            _legend(figure, common, 10, foot - 6, per_line, width, height)
        png, svg = folder / "figure.png", folder / "figure.svg"
        figure.savefig(png, dpi=144, facecolor=LIGHT.paper, metadata={"Software": None})
        with matplotlib.rc_context({"svg.fonttype": "path"}):
            figure.savefig(svg, facecolor=LIGHT.paper, metadata={"Date": None})
    return [png, svg]


def _legend(figure: Figure, legend: list[Entry], x: float, y: float, columns: int, width: float, height: float) -> None:
    """A legend whose upper left corner is at (x, y), in pixels of the figure."""
    if not legend:
        return
    looks: list[Any] = [{"color": e.colour, "linestyle": e.style, "marker": e.marker, "label": e.label} for e in legend]
    handles = [Line2D([], [], markersize=5, **look) for look in looks]
    # matplotlib fills column by column; readers read row by row.
    rows = math.ceil(len(handles) / columns)
    ordered = [handles[r * columns + c] for c in range(columns) for r in range(rows) if r * columns + c < len(handles)]
    figure.legend(
        handles=ordered, loc="upper left", bbox_to_anchor=(x / width, y / height), ncols=columns, frameon=False,
        fontsize=10.5, labelcolor=LIGHT.ink, borderpad=0, columnspacing=1.4, handlelength=1.8,
    )  # fmt: skip


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
        axes.plot(place, summary["mean"], style, marker=marker, markersize=4, color=paint, linewidth=1.8, label=value)


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
    """One row per group: seeds as small dots, their mean as a large one; first group on top.

    Names stand above their rows; where there are more than `MANY` rows there is no room for that, and they stand
    smaller in the left margin, which takes 62 pixels.

    Args:
        axes: where to draw.
        groups: names and values.
        theme: colours of the names and the grid.
        colours: name → colour; by default that of the norm which the name is.
        shift: how far above the middle of their row points stand, in rows.
        label: of the means, in the legend.
        names: write them.
    """
    many = len(groups) > MANY
    size = 9 - 3.0 * many
    for number, (name, values) in enumerate(groups):
        row = len(groups) - 1 - number
        paint = (colours or {}).get(name) or colour(name)
        finite = [value for value in values if math.isfinite(value)]
        axes.plot(finite, [row + shift] * len(finite), "o", color=paint, markersize=4, alpha=0.55, linestyle="none")
        if finite:
            style: Any = {"color": paint, "markersize": size, "linestyle": "none", "label": label}
            axes.plot([float(np.mean(finite))], [row + shift], "o", **style)
        if names:
            look: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": 7} if many else {"fontsize": 10}
            axes.annotate(
                name, (0, row), xycoords=("axes fraction", "data"), xytext=(-4, 0) if many else (2, 7),
                textcoords="offset points", color=theme.ink, annotation_clip=False, **look,
            )  # fmt: skip
    axes.set_yticks([])
    axes.set_ylim(-0.6, len(groups) - 0.2)
    axes.grid(axis="x", color=theme.grid, linewidth=1)


def rule(axes: Axes, theme: Theme, y: float | None = None, x: float | None = None, text: str = "") -> None:
    """A thin line across the plot that says where something is: no change, a published number, T_max."""
    look: dict[str, Any] = {"color": theme.muted, "linewidth": 1, "linestyle": (0, (3, 3)), "zorder": 1}
    words: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9.5, "color": theme.muted}
    if y is not None:
        axes.axhline(y, **look)
        words |= {"xycoords": ("axes fraction", "data"), "xytext": (0, -4), "ha": "right", "va": "top"}
    if x is not None:
        axes.axvline(x, **look)
        words |= {"xycoords": ("data", "axes fraction"), "xytext": (3, -10)}
    if text:
        axes.annotate(text, (1 if x is None else x, 1 if y is None else y), **words)


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
    far = low > 0 and high / low > 1e4
    near = base == 10 and low > 0 and high / low < 30  # in which powers of ten alone may be one tick, or none
    target.set_major_locator(LogLocator(base=base, subs=(1.0, 2.0, 5.0) if near else (1.0,), numticks=8))
    if numbers is not None:
        target.set_major_locator(matplotlib.ticker.FixedLocator(list(numbers)))
    exponent = FuncFormatter(lambda v, _: f"1e{math.log10(v):.0f}" if v > 0 else "0")
    halves = FuncFormatter(lambda v, _: f"1/{compact(1 / v)}" if 0 < v < 1 else compact(v))
    target.set_major_formatter(halves if base == 2 else exponent if far else FuncFormatter(lambda v, _: compact(v)))
    target.set_minor_locator(NullLocator())
    target.set_minor_formatter(NullFormatter())


def linear_axis(axes: Axes, which: str = "y", integer: bool = False) -> None:
    """An axis with few, short numbers."""
    target = axes.yaxis if which == "y" else axes.xaxis
    target.set_major_locator(MaxNLocator(5, integer=integer, steps=[1, 2, 2.5, 5, 10]))
    target.set_major_formatter(FuncFormatter(lambda v, _: compact(v)))
