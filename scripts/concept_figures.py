#!/usr/bin/env python3
"""Drawings of docs/concepts.md: places of normalizers, what a mean is taken over, ragged batches, three evaluations."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

OUT = Path(__file__).parents[1] / "docs" / "concepts"
INK, SOFT, PAPER = "#263238", "#90a4ae", "#ffffff"
NORM, OTHER, THIRD = "#c5cae9", "#ffe0b2", "#c8e6c9"
LENGTHS = (7, 5, 5, 3, 2)


def canvas(width: float, height: float) -> Axes:
    """Axes without ticks in which one unit is one inch."""
    figure = plt.figure(figsize=(width, height), facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return axes


def box(
    axes: Axes, x: float, y: float, text: str, colour: str = PAPER, width: float = 0.95, height: float = 0.42
) -> None:
    """A box around the point (x, y)."""
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height,
            boxstyle="round,pad=0,rounding_size=0.08", facecolor=colour, edgecolor=INK, linewidth=1,
        )
    )  # fmt: skip
    axes.text(x, y, text, ha="center", va="center", color=INK, fontsize=10)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = INK) -> None:
    """An arrow between two points."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.2})


def places() -> None:
    """One step of a layer, with the seven places."""
    axes = canvas(10.4, 3.7)
    for y, source, weight, norm in ((2.5, "$x_t$", "$W_{ih}$", "input"), (1.2, "$h_{t-1}$", "$W_{hh}$", "hidden")):
        axes.text(0.3, y, source, ha="center", va="center", fontsize=13, color=INK)
        box(axes, 1.2, y, weight)
        box(axes, 2.5, y, norm, NORM)
        arrow(axes, (0.55, y), (0.72, y))
        arrow(axes, (1.68, y), (2.02, y))
        arrow(axes, (2.98, y), (3.5, 1.85 + (y - 1.85) * 0.2))
    axes.text(3.62, 1.85, "+", ha="center", va="center", fontsize=15, color=INK)
    box(axes, 4.5, 1.85, "joint", NORM)
    box(axes, 5.65, 1.85, "i f o g", width=0.9)
    box(axes, 6.75, 2.65, "$c_t$", width=0.7)
    box(axes, 7.8, 2.65, "cell", NORM)
    box(axes, 6.75, 1.05, "o ⊙ tanh", width=1.05)
    box(axes, 8.05, 1.05, "output", NORM)
    arrow(axes, (3.76, 1.85), (4.02, 1.85))
    arrow(axes, (4.98, 1.85), (5.2, 1.85))
    arrow(axes, (6.0, 2.08), (6.38, 2.5))
    arrow(axes, (6.0, 1.62), (6.3, 1.28))
    arrow(axes, (7.1, 2.65), (7.32, 2.65))
    arrow(axes, (7.7, 2.42), (7.15, 1.28))
    arrow(axes, (7.28, 1.05), (7.57, 1.05))
    arrow(axes, (8.05, 0.82), (8.05, 0.42))
    axes.text(8.3, 0.3, "$h_t$", ha="center", va="center", fontsize=13, color=INK)
    arrow(axes, (8.53, 1.05), (9.27, 1.05), SOFT)
    box(axes, 9.75, 1.05, "emitted", NORM)
    arrow(axes, (9.75, 1.28), (9.75, 1.62), SOFT)
    box(axes, 9.75, 1.85, "between", NORM)
    arrow(axes, (9.75, 2.08), (9.75, 2.5), SOFT)
    axes.text(9.75, 2.65, "next layer", ha="center", fontsize=9, color=INK)
    axes.text(6.75, 3.05, "kept for step t + 1", ha="center", fontsize=9, color=INK)
    axes.text(2.5, 2.95, "vertical: all rows at once", ha="center", fontsize=9, color=INK)
    axes.text(2.5, 0.72, "horizontal: the rows of step t", ha="center", fontsize=9, color=INK)
    save("places")


def cells(axes: Axes, x: float, y: float, colours: dict[tuple[int, int], str], side: float = 0.3) -> None:
    """Sequences as rows of squares, the longest on top; steps without a row are dotted."""
    for b, length in enumerate(LENGTHS):
        for t in range(max(LENGTHS)):
            there = t < length
            axes.add_patch(
                Rectangle(
                    (x + t * side, y - b * side), side, side,
                    facecolor=colours.get((b, t), PAPER) if there else "none",
                    edgecolor=INK if there else SOFT, linewidth=0.9 if there else 0.5, linestyle="-" if there else ":",
                )
            )  # fmt: skip


def averaged() -> None:
    """The entries over which one mean and one variance are taken."""
    axes = canvas(9.0, 2.7)
    rows = {(b, t) for b, length in enumerate(LENGTHS) for t in range(length)}
    for x, title, chosen, colour in (
        (0.45, "one for all rows\nbn-vertical", rows, NORM),
        (3.45, "one per timestep\nbn-timestep", {(b, 2) for b in range(4)}, OTHER),
        (6.45, "one per row\nln", {(1, 3)}, THIRD),
    ):
        cells(axes, x, 1.55, dict.fromkeys(chosen, colour))
        axes.text(x + 1.05, 2.28, title, ha="center", va="center", fontsize=10, color=INK)
        arrow(axes, (x, 0.2), (x + 2.1, 0.2), SOFT)
    axes.text(8.7, 0.2, "t", va="center", fontsize=11, color=INK)
    axes.text(0.2, 1.1, "sequences", rotation=90, ha="center", va="center", fontsize=9, color=INK)
    save("averaged")


def ragged() -> None:
    """A batch of sequences of different lengths, and the number of active rows at each step."""
    axes = canvas(9.0, 2.5)
    shades = ("#9fa8da", "#ffcc80", "#a5d6a7", "#ef9a9a", "#b0bec5")
    cells(axes, 0.4, 1.85, {(b, t): shades[b] for b, n in enumerate(LENGTHS) for t in range(n)})
    active = [sum(n > t for n in LENGTHS) for t in range(max(LENGTHS))]
    axes.text(0.2, 0.35, "$B_t$", ha="center", va="center", fontsize=10, color=INK)
    for t, count in enumerate(active):
        axes.text(0.55 + 0.3 * t, 0.35, str(count), ha="center", va="center", fontsize=10, color=INK)
    arrow(axes, (2.75, 1.25), (3.2, 1.25))
    x = 3.4
    for t, count in enumerate(active):
        for b in range(count):
            axes.add_patch(Rectangle((x, 1.1), 0.2, 0.3, facecolor=shades[b], edgecolor=INK, linewidth=0.7))
            x += 0.2
        axes.text(x - 0.1 * count, 0.9, f"t={t}", ha="center", va="center", fontsize=8, color=INK)
        x += 0.08
    axes.text(6.1, 1.65, "stored step by step: no padding, and no mask", ha="center", fontsize=10, color=INK)
    save("ragged")


def evaluations() -> None:
    """Where the moments come from by which a trained network is evaluated."""
    axes = canvas(9.0, 3.3)
    for y, name, colour, steps in (
        (2.7, "running", NORM, ("training batches,\nearlier weights", "moving averages")),
        (1.65, "population", THIRD, ("about 1,000 training\nsequences, final weights", "moments of one batch")),
        (0.6, "batch", OTHER, ("the batch that is\nevaluated itself", "its own moments")),
    ):
        axes.text(0.2, y, name, va="center", fontsize=12, weight="bold", color=INK)
        box(axes, 2.55, y, steps[0], width=2.2, height=0.62)
        box(axes, 5.1, y, steps[1], colour, width=1.9, height=0.62)
        arrow(axes, (3.65, y), (4.15, y))
        arrow(axes, (6.05, y), (6.95, 1.65 + (y - 1.65) * 0.25))
    box(axes, 7.95, 1.65, "the network\non test sequences", width=1.9, height=0.9)
    save("evaluations")


def save(name: str) -> None:
    """Write the present figure as SVG, the same bytes each time."""
    plt.savefig(OUT / f"{name}.svg", metadata={"Date": None})
    plt.close()


if __name__ == "__main__":
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "rnnnorm"
    OUT.mkdir(exist_ok=True)
    for draw in (places, averaged, ragged, evaluations):
        draw()
