"""Speed and straightness of learning: steps to a loss, and the path of two weights."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rnnnorm.report.canvas import Theme
from rnnnorm.studies.data.scaling import zigzag
from rnnnorm.studies.framework import Row, Trained, Words, where
from rnnnorm.studies.framework.figure import Plot
from rnnnorm.studies.framework.plots import Panel, linear_axis

POINTS = 200
WINDOW = 20
"""Steps over which the training loss is averaged."""


def steps_to_loss(trained: Trained, target: float) -> float:
    """Steps until the training loss, a running mean, is below a target; one more than there were to be if it never is.

    Args:
        trained: the trial; it logs every step.
        target: in the units of the loss.
    """
    curve = trained.curves.get("train/loss")
    if curve is not None and len(curve.value) >= WINDOW:
        mean = np.convolve(curve.value, np.ones(WINDOW) / WINDOW, mode="valid")
        below = np.flatnonzero(mean < target)
        if len(below):
            return float(curve.step[WINDOW - 1 :][below[0]] + 1)
    if not trained.diverged:
        return float(trained.result["steps"] + 1)
    batches = len(trained.data().train_dataloader())
    return float(int(trained.comparison.config.trainer.max_epochs or 1) * batches + 1)


def weight_path(trained: Trained, along: bool) -> Iterator[Row]:
    """`zigzag` of the path that `rnnnorm.studies.data.scaling.WeightPath` noted, none if there is no such path.

    Args:
        trained: the trial.
        along: also the path itself: `weight_a` and `weight_b` by step `t`, each minus where it began.
    """
    file = trained.folder / "path.json"
    if not file.is_file():
        return
    walked = np.array(json.loads(file.read_text(encoding="utf-8")), dtype=np.float64)
    walked = walked[np.isfinite(walked).all(axis=1)]
    if len(walked) > 1:
        yield {"quantity": "zigzag", "value": zigzag(walked)}
    if along:
        for t in np.unique(np.linspace(0, len(walked) - 1, POINTS).astype(int)).tolist():
            yield {"quantity": "weight_a", "t": t, "value": float(walked[t, 0] - walked[0, 0])}
            yield {"quantity": "weight_b", "t": t, "value": float(walked[t, 1] - walked[0, 1])}


class Paths(Plot):
    """Paths of two weights from their common beginning: the first quantity to the right, the second one up."""

    def panel(self, m: pd.DataFrame, words: Words) -> Panel:
        """The plot of some rows."""
        colours = self._colours(m)

        def draw(axes: Axes, theme: Theme) -> None:
            for name, path in m.groupby("line", sort=False):
                a, b = (where(path, quantity=q).sort_values("t")["value"].to_numpy() for q in self.quantity)
                axes.plot(a, b, "-", color=colours[str(name)], linewidth=1.1, label=name)
                axes.plot(a[-1:], b[-1:], "o", color=colours[str(name)], markersize=5)
            axes.plot([0], [0], "+", color=theme.ink, markersize=9)
            linear_axis(axes, "x")
            linear_axis(axes, "y")

        return Panel(self._titled(self.title, m, words), self.axis, draw, self.about)
