"""Summary of a benchmark: one number per norm and question, over all shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .records import OURS, RATIO, SCRIPT, Record, geometric_mean, pick


@dataclass(frozen=True)
class Goal:
    """A question about speed or memory, and the answer that the package aims at.

    Args:
        name: what it is, in words.
        part: where its records are.
        lengths: likewise.
        metric: likewise.
        bound: the aim.
        at_most: whether smaller is better.
        worst: ask for the worst shape instead of the geometric mean over shapes.
    """

    name: str
    part: str
    lengths: str
    metric: str
    bound: float
    at_most: bool = True
    worst: bool = False


GOALS = (
    Goal("training step, dense", "dense", "dense", RATIO, 1.0),
    Goal("training step, dense, worst shape", "dense", "dense", RATIO, 1.3, worst=True),
    Goal("training step, uniform lengths, both packed", "ragged", "uniform", RATIO, 0.9),
    Goal("forward pass without a graph", "forward", "dense", RATIO, 1.2),
    Goal("peak memory of a training step", "memory", "dense", RATIO, 1.5),
    Goal("training step, times faster than the TorchScript LayerNorm-LSTM", "dense", "dense", SCRIPT, 2.5, False),
)


@dataclass(frozen=True)
class Line:
    """The answer for one norm.

    Args:
        goal: the question's name.
        metric: what the number is.
        norm: the preset.
        backend: what ran; several are joined by commas.
        value: geometric mean over the shapes, or the worst of them.
        shapes: how many there are.
        bound: the aim.
        met: whether the value reaches it.
    """

    goal: str
    metric: str
    norm: str
    backend: str
    value: float
    shapes: int
    bound: float
    met: bool


def summarize(records: Sequence[Record]) -> list[Line]:
    """One line per goal and norm, as far as there are records."""
    lines = []
    for goal in GOALS:
        found = pick(records, part=goal.part, lengths=goal.lengths, metric=goal.metric, contender=OURS)
        for norm in dict.fromkeys(r.norm for r in found):
            rows = pick(found, norm=norm)
            medians = [r.median for r in rows]
            value = (max if goal.at_most else min)(medians) if goal.worst else geometric_mean(medians)
            met = value <= goal.bound if goal.at_most else value >= goal.bound
            backend = ", ".join(dict.fromkeys(r.backend for r in rows))
            lines.append(Line(goal.name, goal.metric, norm, backend, value, len(rows), goal.bound, met))
    return lines
