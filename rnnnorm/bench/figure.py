"""Figure of a benchmark: ratios per norm and shape, and their growth with the sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from .document import Benchmark
from .machine import one_line
from .records import OUR_CELL, OURS, PRODUCTS, RATIO, geometric_mean, pick
from .shapes import Shape

SUFFIXES = (".png", ".svg", ".pdf")

# Okabe and Ito's colours, told apart in the common kinds of colour blindness; the markers say the same again.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000", "#8c8c00")
_MARKERS = "osD^vPX*"
_INK, _MUTED, _GRID = "#1d2126", "#656d76", "#e4e6e9"

_PANELS = (
    ("dense", "dense", "Training step, dense"),
    ("ragged", "uniform", "Training step, uniform lengths, packed"),
    ("ragged", "heavy-tailed", "Training step, heavy-tailed, packed"),
    ("forward", "dense", "Forward pass, dense"),
    ("forward", "uniform", "Forward pass, uniform lengths"),
    ("memory", "dense", "Peak memory of a training step"),
    ("streaming", "dense", "One timestep of one sequence"),
)
_COLUMNS = 3


def check_figure_path(path: Path) -> None:
    """Raise ValueError for a file that a picture cannot be written to."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"a figure's name ends in {', '.join(SUFFIXES)}, got {path.name!r}")


def draw(run: Benchmark, path: Path) -> None:
    """Write the picture.

    Raises:
        ValueError: a suffix that is none of `SUFFIXES`, or nothing to show.
    """
    check_figure_path(path)
    records = pick(run.records, metric=RATIO)
    panels = [p for p in _PANELS if len(pick(records, part=p[0], lengths=p[1]))]
    growth = pick(records, part="growth", contender=OURS)
    growth = growth.assign(**{axis: [getattr(shape, axis) for shape in growth["shape"]] for axis in Shape._fields})
    axes_of_growth = [axis for axis in "TBH" if growth[axis].nunique() > 1]
    if not panels and not axes_of_growth:
        raise ValueError("there is no ratio to draw")
    rows = math.ceil(len(panels) / _COLUMNS) + bool(axes_of_growth)
    norms = records[records["contender"].isin((OURS, OUR_CELL))]["norm"].unique()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "rnnnorm", "font.size": 9}
    with matplotlib.rc_context(settings):
        height = 0.9 + rows * max(2.6, 0.34 * (len(norms) + 1) + 1.0)
        figure = Figure(figsize=(13, height), dpi=110, facecolor="white")
        grid = figure.add_gridspec(
            rows,
            _COLUMNS,
            left=0.085,
            right=0.985,
            top=1 - 0.95 / height,
            bottom=0.5 / height,
            hspace=0.26,
            wspace=0.28,
        )
        shapes = records[~records["part"].isin(("growth", "streaming"))]["shape"].unique()
        for number, (part, lengths, title) in enumerate(panels):
            axes = figure.add_subplot(grid[number // _COLUMNS, number % _COLUMNS])
            shown = pick(records, part=part, lengths=lengths)
            _dots(axes, shown, norms, _styles(shapes, shown), title)
        for number, axis in enumerate(axes_of_growth):
            _lines(figure.add_subplot(grid[rows - 1, number]), growth, axis, norms)
        _legend(figure, shapes, height)
        title = "Time and memory of rnnnorm.LSTM relative to torch.nn.LSTM (1 = equal, left is better)"
        figure.text(0.01, 1 - 0.1 / height, title, va="top", fontsize=13, color=_INK)
        figure.text(0.01, 1 - 0.36 / height, one_line(run.machine), va="top", fontsize=9, color=_MUTED)
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)


def _styles(shapes: Sequence[Shape], records: pd.DataFrame) -> dict[Shape, tuple[str, str]]:
    """Colour and marker of each shape; streaming, where T = B = 1, has those of the first shape with its I and H."""
    known = {s: (_COLOURS[k % len(_COLOURS)], _MARKERS[k % len(_MARKERS)]) for k, s in enumerate(shapes)}
    for shape in records["shape"].unique():
        alike = next((known[s] for s in shapes if (s.I, s.H) == (shape.I, shape.H)), None)
        known.setdefault(shape, alike or (_COLOURS[len(known) % len(_COLOURS)], _MARKERS[len(known) % len(_MARKERS)]))
    return known


def _dots(
    axes: Axes, records: pd.DataFrame, norms: Sequence[str], styles: dict[Shape, tuple[str, str]], title: str
) -> None:
    """One row per norm: a dot with its quartiles per shape, a bar at the geometric mean, the products below."""
    rows = [(norm, pick(records, contender=OURS, norm=norm)) for norm in norms]
    rows += [(PRODUCTS, pick(records, contender=PRODUCTS))]
    rows = [(name, found) for name, found in rows if len(found)]
    for y, (_, found) in enumerate(rows):
        for k, record in enumerate(found.itertuples()):
            colour, marker = styles[record.shape]
            at = y + 0.16 * (k - (len(found) - 1) / 2)
            axes.plot([record.q1, record.q3], [at, at], color=colour, linewidth=1.5, solid_capstyle="round")
            axes.plot([record.median], [at], marker, color=colour, markersize=5, linestyle="none")
        mean = geometric_mean(found["median"])
        axes.plot([mean, mean], [y - 0.36, y + 0.36], color=_INK, linewidth=1.6)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.axvline(1.0, color=_MUTED, linewidth=1, zorder=0)
    _dress(axes, title)
    _ratio_axis(axes, "x", pd.concat([found for _, found in rows]))


def _lines(axes: Axes, records: pd.DataFrame, axis: str, norms: Sequence[str]) -> None:
    """Ratio against T, B or H; the other sizes are those of the base shape, the commonest ones."""
    held = {name: records[name].mode()[0] for name in Shape._fields if name != axis}
    alike = pick(records, **held).sort_values(axis)
    lines = [(norm, line) for norm in norms if len(line := pick(alike, norm=norm))]
    for k, (norm, line) in enumerate(lines):
        colour, marker = _COLOURS[k % len(_COLOURS)], _MARKERS[k % len(_MARKERS)]
        axes.fill_between(line[axis], line["q1"], line["q3"], color=colour, alpha=0.18, linewidth=0)
        axes.plot(line[axis], line["median"], marker + "-", color=colour, markersize=4.5, linewidth=1.5, label=norm)
    axes.axhline(1.0, color=_MUTED, linewidth=1, zorder=0)
    _dress(axes, f"Training step as {axis} grows ({', '.join(f'{name}={size}' for name, size in held.items())})")
    axes.set_xscale("log", base=2)
    axes.set_xticks(alike[axis].unique(), alike[axis].unique().astype(str))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color=_GRID)
    _ratio_axis(axes, "y", alike)
    axes.legend(frameon=False, fontsize=8)


def _dress(axes: Axes, title: str) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    axes.tick_params(length=0, labelcolor=_MUTED, pad=4, which="both")
    axes.set_title(title, loc="left", fontsize=10, color=_INK, pad=6)
    axes.grid(axis="x", color=_GRID)
    axes.set_axisbelow(True)


def _ratio_axis(axes: Axes, which: str, shown: pd.DataFrame) -> None:
    """Logarithmic axis to base 2, so that half and twice are equally far from 1; at least from 1/2 to 2."""
    low, high = min(shown["q1"].min(), 0.5) / 1.1, max(shown["q3"].max(), 2.0) * 1.1
    target = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log", base=2)
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    target.set_major_locator(LogLocator(base=2, numticks=12))
    target.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}"))
    target.set_minor_locator(NullLocator())
    target.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, shapes: Sequence[Shape], height: float) -> None:
    """The shapes, once for all panels."""
    handles = []
    for k, shape in enumerate(shapes):
        style: Any = {"color": _COLOURS[k % len(_COLOURS)], "marker": _MARKERS[k % len(_MARKERS)], "linestyle": "none"}
        handles.append(Line2D([], [], label=f"T,B,I,H = {shape}", **style))
    handles.append(Line2D([], [], color=_INK, linewidth=1.6, label="geometric mean"))
    place: Any = {"loc": "upper left", "bbox_to_anchor": (0.005, 1 - 0.48 / height), "ncols": len(handles)}
    figure.legend(handles=handles, frameon=False, fontsize=9, handletextpad=0.3, columnspacing=1.6, **place)
