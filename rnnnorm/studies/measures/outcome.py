"""How well a trained trial has learned, in numbers that stay comparable when some runs diverge."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row

MODE = "population"
"""Batch normalization is judged by population statistics: running averages have a study of their own."""
WINDOW = 5


def learned(trained: Trained) -> float:
    """How good the best checkpoint is on the test split, between 0 and 1; a run that diverged has learned nothing.

    Where more of the task's own metric is better, as of accuracy, it is that; elsewhere it is exp(-loss), which is the
    (geometric) mean probability given to the truth where the loss is a cross entropy.
    """
    values = trained.result["test"].get(MODE, {})
    if trained.diverged or not values:
        return 0.0
    metric = trained.result["metric"]
    found = values[metric] if trained.result["metric_mode"] == "max" else math.exp(-values["loss"])
    return float(found) if math.isfinite(found) else 0.0


def outcome(trained: Trained) -> Iterator[Row]:
    """`learned`, `best_val_loss`, `final_train_loss`, `final_val_loss` and `diverged`; infinite where it diverged."""
    yield {"quantity": "learned", "value": learned(trained)}
    yield {"quantity": "diverged", "value": float(trained.diverged)}
    yield {"quantity": "steps", "value": trained.result["steps"]}
    yield {"quantity": "seconds", "value": trained.result["seconds"]}
    validated = trained.curves.get("val/loss")
    kept = validated is not None and len(validated.value) > 0 and not trained.diverged
    yield {"quantity": "best_val_loss", "value": float(validated.value.min()) if kept and validated else math.inf}
    yield {"quantity": "final_val_loss", "value": float(validated.value[-1]) if kept and validated else math.inf}
    smooth = [row["value"] for row in training_curve(trained)]
    yield {"quantity": "final_train_loss", "value": smooth[-1] if smooth and not trained.diverged else math.inf}


def training_curve(trained: Trained) -> Iterator[Row]:
    """`train_curve` against the step `t`: the training loss, each the mean of the last five logged values."""
    curve = trained.curves.get("train/loss")
    if curve is None:
        return
    for k, step in enumerate(curve.step.tolist()):
        value = float(np.mean(curve.value[max(0, k + 1 - WINDOW) : k + 1]))
        yield {"quantity": "train_curve", "t": int(step) + 1, "value": value}


def tuned(m: pd.DataFrame, by: list[str], rate: str = "lr") -> pd.DataFrame:
    """Of every group of runs those with the learning rate that learned best, on average over seeds.

    The choice is made by the validation loss, medians over seeds, so that one diverged seed decides nothing.

    Args:
        m: measurements with `best_val_loss`.
        by: the columns that make a group.
        rate: the column of the learning rate.
    """
    if rate not in m or m.empty:
        return m
    found = where(m, quantity="best_val_loss")
    middle = found.groupby([*by, rate], dropna=False, sort=False)["value"].median().reset_index()
    best = middle.sort_values("value", kind="stable").drop_duplicates(by)[[*by, rate]]
    return m.merge(best, on=[*by, rate])
