"""Composition of panels: one by one with their legends into a page, or all of them into one figure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnnnorm.report.canvas import LIGHT, THEMED, VARIABLES, canvas, dress, inline, settings
from rnnnorm.studies.framework.plots import EDGE, SIZE, Panel

_WIDTH = 470
_MARGINS = (62, 18, 34, 46)
_LINE = 19  # pixels of a line of a legend


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
            figure, one = canvas(_WIDTH, panel.height, _MARGINS, THEMED)
            panel.onto(one, THEMED)
            legends.append(entries([one]))
            drawn.append(inline(figure, f"{key}{number}", f"{panel.title} against {panel.x}. {panel.about}"))
    common = shared(legends)
    return [Drawn(svg, [] if common else legend) for svg, legend in zip(drawn, legends, strict=True)], common


def save_figure(panels: Sequence[Panel], folder: Path, title: str) -> list[Path]:
    """Write `figure.png` and `figure.svg`: all panels side by side, two in a row.

    The legend stands below all of them where they share one, else below each. Without panels nothing is written.
    """
    if not panels:
        return []
    with settings():
        figure = _figure(panels, title)
        png, svg = folder / "figure.png", folder / "figure.svg"
        figure.savefig(png, dpi=144, facecolor=LIGHT.paper, metadata={"Software": None})
        with matplotlib.rc_context({"svg.fonttype": "path"}):
            figure.savefig(svg, facecolor=LIGHT.paper, metadata={"Date": None})
    return [png, svg]


def _figure(panels: Sequence[Panel], title: str) -> Figure:
    columns = min(len(panels), 2)
    legends = []
    for panel in panels:
        _, one = canvas(_WIDTH, panel.height, _MARGINS, LIGHT)
        panel.onto(one, LIGHT)
        legends.append(entries([one]))
    common = shared(legends)
    title = "\n".join(textwrap.wrap(title, 48 * columns))
    head, width = 22 + 19 * len(title.splitlines()), columns * _WIDTH
    heights = []  # of each row of panels
    for row in range(0, len(panels), columns):
        below = [0 if common else 8 + _LINE * math.ceil(len(legend) / _columns(legend)) for legend in legends]
        here = slice(row, row + columns)
        heights.append(max(panel.height + more for panel, more in zip(panels[here], below[here], strict=True)))
    per_line = _columns(common, width) if common else 1
    foot = 16 + _LINE * math.ceil(len(common) / per_line) if common else 0
    height = head + sum(heights) + foot
    figure = Figure(figsize=(width / 72, height / 72), dpi=72, facecolor=LIGHT.paper)
    left, right, top, bottom = _MARGINS
    for number, panel in enumerate(panels):
        x0, y1 = (number % columns) * _WIDTH, height - head - sum(heights[: number // columns])
        y0 = y1 - panel.height
        place = ((x0 + left) / width, (y0 + bottom) / height)
        size = ((_WIDTH - left - right) / width, (panel.height - top - bottom) / height)
        one = figure.add_axes((*place, *size))
        dress(one, LIGHT)
        panel.onto(one, LIGHT)
        if not common:
            _legend(figure, legends[number], x0 + EDGE, y0, _columns(legends[number]), width, height)
    figure.text(EDGE / width, 1 - 12 / height, title, color=LIGHT.ink, fontsize=15, fontweight="bold", va="top")
    if common:
        _legend(figure, common, EDGE, foot - 6, per_line, width, height)
    return figure


def _columns(legend: Sequence[Entry], width: int = _WIDTH) -> int:
    """How many columns of a legend have room side by side."""
    return max(1, int(width // (48 + 7.4 * max((len(entry.label) for entry in legend), default=1))))


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
        fontsize=SIZE, labelcolor=LIGHT.ink, borderpad=0, columnspacing=1.4, handlelength=1.8,
    )  # fmt: skip
