"""Summary of a benchmark: one number per norm and question, over all shapes."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from .records import OURS, RATIO, SCRIPT, geometric_mean, pick

ANSWER = ["goal", "metric", "norm", "backend", "value", "shapes", "bound", "met"]


@dataclass(frozen=True)
class Goal:
    """A question about speed or memory, and the answer that the package aims at.

    Args:
        name: what it is, in words.
        part: of its records, like the next two.
        lengths: of its records.
        metric: of its records.
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
    Goal("one timestep of one sequence", "streaming", "dense", RATIO, 1.0),
    Goal("training step, times faster than the TorchScript LayerNorm-LSTM", "dense", "dense", SCRIPT, 2.5, False),
)


def summarize(records: pd.DataFrame) -> pd.DataFrame:
    """Answers, one row per goal and norm, as far as there are records.

    Args:
        records: see `rnnnorm.bench.records.frame`.

    Returns:
        The columns of `ANSWER`: the goal's name and metric, the norm, the backends that ran (joined by commas), the
        value (geometric mean over the shapes, or the worst of them), the number of shapes, the bound, and whether the
        value meets it.
    """
    answers = []
    for goal in GOALS:
        found = pick(records, part=goal.part, lengths=goal.lengths, metric=goal.metric, contender=OURS)
        for norm, its in found.groupby("norm", sort=False):
            medians = its["median"].tolist()
            value = (max if goal.at_most else min)(medians) if goal.worst else geometric_mean(medians)
            met = value <= goal.bound if goal.at_most else value >= goal.bound
            backends = ", ".join(its["backend"].unique())
            answers.append((goal.name, goal.metric, norm, backends, value, len(its), goal.bound, met))
    return pd.DataFrame(answers, columns=ANSWER)
