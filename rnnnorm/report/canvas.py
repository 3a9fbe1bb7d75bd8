"""Drawing surfaces: matplotlib figures measured in pixels, and their conversion to themed inline SVG."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from rnnnorm.report.curves import Array, Band
from rnnnorm.report.numbers import minus


@dataclass(frozen=True)
class Theme:
    """The colours of everything that is not a norm."""

    ink: str = "#1d2126"
    muted: str = "#656d76"
    grid: str = "#e4e6e9"
    paper: str = "#ffffff"


LIGHT = Theme()

THEMED = Theme("#010101", "#020202", "#030303", "#040404")
"""Stand-ins that `inline` turns into the page's CSS variables, so that one drawing serves light and dark."""

VARIABLES = {"#010101": "var(--ink)", "#020202": "var(--muted)", "#030303": "var(--grid)", "#040404": "var(--paper)"}

# 72 dots per inch make a point a pixel of the SVG. Text stays text, in the reader's font; the salt keeps ids stable,
# so that the same runs give the same file.
_SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "rnnnorm", "figure.dpi": 72, "font.size": 11}


SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

SMALL = (230, 150, (50, 8, 10, 30))
"""Width, height and margins of one of many small panels; on a phone, where two are side by side, 230 pixels are 169."""
SMALL_TYPE = 12.5
"""Size of its type: 9 pixels on a phone."""


def small_canvas(theme: Theme) -> tuple[Figure, Axes]:
    """A figure of one of many small panels."""
    figure, axes = canvas(*SMALL, theme)
    axes.tick_params(labelsize=SMALL_TYPE)
    return figure, axes


def canvas(width: int, height: int, margins: tuple[int, int, int, int], theme: Theme) -> tuple[Figure, Axes]:
    """A figure of one plot, in pixels; `margins` are left, right, top, bottom."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72, facecolor="none")
    left, right, top, bottom = margins
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )
    dress(axes, theme)
    return figure, axes


def dress(axes: Axes, theme: Theme, size: float = 11) -> None:
    """No frame, quiet ticks, a horizontal grid."""
    axes.set_facecolor("none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.grid)
    axes.tick_params(length=0, labelsize=size, labelcolor=theme.muted, color=theme.grid, pad=5, which="both")
    axes.grid(axis="y", color=theme.grid, linewidth=1)
    axes.set_axisbelow(True)


def name_axes(axes: Axes, x: str, y: str, theme: Theme, size: float = 11) -> None:
    """Label the axes: x below at the right end, y above the plot, where it can be read without turning the head.

    A y label that would leave the figure at its right begins as far left of the plot as it has to.
    """
    axes.set_xlabel(x, color=theme.muted, fontsize=size, loc="right", labelpad=4)
    title = axes.set_title(y, color=theme.ink, fontsize=size, loc="left", x=0, pad=9)
    plot, end = axes.get_window_extent(), axes.figure.bbox.width - 2
    title.set_x(min(0.0, max(2 - plot.x0, end - plot.x0 - title.get_window_extent().width) / plot.width))


def scale(axes: Axes, values: Iterable[Array], axis: str = "y", factor: float = 30) -> None:
    """Choose the scale of an axis from what it shows: logarithmic where positive values span more than a factor.

    On a logarithmic axis what lies beyond 10 000 times the median is cut off: a run about to diverge would flatten the
    others.
    """
    every = np.concatenate([np.asarray(value, dtype=np.float64).ravel() for value in values] or [np.zeros(0)])
    every = every[np.isfinite(every)]
    target = axes.yaxis if axis == "y" else axes.xaxis
    set_limits = axes.set_ylim if axis == "y" else axes.set_xlim
    if len(every) == 0:
        return
    low, high = float(every.min()), float(every.max())
    if low > 0 and high / low > factor:
        high = min(high, 1e4 * float(np.median(every)))
        (axes.set_yscale if axis == "y" else axes.set_xscale)("log")
        margin = (high / low) ** 0.06
        set_limits(low / margin, high * margin)
        subs = (1, 2, 3, 5) if high / low < 10 else (1, 3) if high / low < 100 else (1,)  # two ticks at least
        target.set_major_locator(LogLocator(subs=subs, numticks=6))
        target.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
        target.set_minor_locator(NullLocator())
        target.set_minor_formatter(NullFormatter())
    else:
        margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
        set_limits(low - margin, high + margin)
        target.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def steps_axis(axes: Axes, last: float, ticks: int = 5) -> None:
    """The x axis of training steps, from 0 to `last`."""
    axes.set_xlim(0, max(last, 1))
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))


def compact(value: float) -> str:
    """A tick's number, short: `10⁻⁴`, `0.5`, `250`, `1.5k`, `2M`."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if 1e15 > abs(value) >= unit:
            return minus(f"{value / unit:g}{name}")
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    if value and int(exponent) < -3 and (float(mantissa) == 1 or int(exponent) < -4):
        power = f"10{str(int(exponent)).translate(SUPERSCRIPT)}"
        return power if float(mantissa) == 1 else minus(f"{float(mantissa):g}·{power}")
    return minus(f"{value:.3g}")


def draw_band(
    axes: Axes, band: Band, colour: str, style: str = "-", width: float = 1.8, gid: str | None = None
) -> None:
    """A mean line in its band from the smallest to the largest seed."""
    if len(band.step) == 1:
        axes.plot(band.step, band.mean, "o", color=colour, markersize=4, gid=gid)
        return
    if np.any(band.high > band.low):
        axes.fill_between(band.step, band.low, band.high, color=colour, alpha=0.16, linewidth=0, gid=gid)
    axes.plot(band.step, band.mean, style, color=colour, linewidth=width, solid_capstyle="round", gid=gid)


def spread(positions: list[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels apart: nearest positions in the same order, at least `gap` apart, within [low, high] if they fit."""
    order = sorted(range(len(positions)), key=positions.__getitem__)
    if not order:
        return []
    # Least squares under an order constraint: subtract the gaps and merge neighbours that would cross.
    blocks: list[list[float]] = []  # [mean, members]
    for rank, k in enumerate(order):
        blocks.append([positions[k] - rank * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, members = blocks.pop()
            blocks[-1] = [
                (blocks[-1][0] * blocks[-1][1] + mean * members) / (blocks[-1][1] + members),
                blocks[-1][1] + members,
            ]
    flat = [mean for mean, members in blocks for _ in range(int(members))]
    top = max(high - (len(order) - 1) * gap, low)
    placed = {k: min(max(flat[rank], low), top) + rank * gap for rank, k in enumerate(order)}
    return [placed[k] for k in range(len(positions))]


def settings() -> AbstractContextManager[None]:
    """The context in which figures are drawn and saved."""
    return matplotlib.rc_context(_SETTINGS)


def inline(figure: Figure, key: str, label: str) -> str:
    """A figure as an `<svg>` element for a page: themed by CSS variables, ids its own, described to screen readers.

    Elements whose gid is `norm:<k>` get the class `n<k>`, by which the page can pick out one norm.

    Args:
        figure: drawn with the `THEMED` theme.
        key: unique in the page; it prefixes every id.
        label: the alternative text.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for part in list(root):
        # A style sheet inside the figure would hold for the whole page, which has its own rules for figures.
        if _bare(part.tag) == "metadata" or any(_bare(child.tag) == "style" for child in part):
            root.remove(part)
    defined = {part.get("id") for parent in root.iter() if _bare(parent.tag) == "defs" for part in parent}
    for element in root.iter():
        element.tag, element.attrib = _bare(element.tag), dict(_attributes(element, key, defined))
    root.attrib = {"role": "img", "aria-label": label, "viewBox": root.attrib["viewBox"]}
    ElementTree.indent(root, "")
    svg = ElementTree.tostring(root, encoding="unicode")
    for stand_in, variable in VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    return svg


def _bare(name: str) -> str:
    """A name without its namespace, as HTML wants it."""
    return name.rpartition("}")[2]


def _attributes(element: ElementTree.Element, key: str, defined: set[str | None]) -> Iterator[tuple[str, str]]:
    """Attributes for a page: the ids of definitions with a prefix, norms as classes, fonts left to the page."""
    for name, value in element.items():
        name = _bare(name)
        if name == "id" and value in defined:
            yield name, f"{key}-{value}"
        elif name == "id" and value.startswith("norm:"):
            yield "class", value.replace("norm:", "n")
        elif name == "style":
            yield name, ";".join(rule for rule in value.split(";") if "font-family:" not in rule)
        elif name == "href":
            yield name, value.replace("#", f"#{key}-")
        elif name != "id":
            yield name, value.replace("url(#", f"url(#{key}-")
