"""How well a trained trial has learned, in numbers that stay comparable when some runs diverge."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from rnnnorm.studies.framework import Row, Trained, where

MODE = "population"
"""Batch normalization is judged by population statistics: running averages have a study of their own."""
WINDOW = 5
NEVER = 2.0
"""Ratio of steps noted for a run that never got there: none gets there after half its training."""


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
    """`learned`, `diverged`, `steps`, `seconds`, and losses, infinite where it diverged.

    `best_val_loss`, by which checkpoints and learning rates are selected, is a minimum of noisy values; `test_loss` of
    the checkpoint it selects is not. Beside them `final_val_loss` and `final_train_loss`.
    """
    yield {"quantity": "learned", "value": learned(trained)}
    yield from trained.above_guessing()
    yield {"quantity": "diverged", "value": float(trained.diverged)}
    yield {"quantity": "steps", "value": trained.result["steps"]}
    yield {"quantity": "seconds", "value": trained.result["seconds"]}
    tested = trained.result["test"].get(MODE, {}).get("loss", math.inf)
    yield {"quantity": "test_loss", "value": math.inf if trained.diverged else float(tested)}
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


def speed(m: pd.DataFrame, per: list[str]) -> pd.DataFrame:
    """`speed`: steps to the loss that the network without norm has after half of its steps, over those that it took.

    The loss is the smallest so far: a curve that touches it and jumps back has been there. A run that never gets there
    counts as `NEVER`.

    Args:
        m: measurements with `train_curve` against `t`.
        per: columns; each combination of their values has a network without norm of its own.
    """
    rows = []
    for place, here in m.groupby(per, sort=False):
        curves = {
            run: rows.sort_values("t") for run, rows in where(here, quantity="train_curve").groupby(["norm", "seed"])
        }
        for norm, seed in here[["norm", "seed"]].drop_duplicates().itertuples(index=False, name=None):
            plain, other = curves.get(("none", seed)), curves.get((norm, seed))
            half = None if plain is None else plain[plain["t"] <= plain["t"].max() / 2]
            if norm == "none" or plain is None or half is None or half.empty:
                continue
            target = float(half["value"].min())
            took = float(plain[plain["value"] <= target]["t"].min())
            reached = [] if other is None else other[other["value"] <= target]["t"]
            value = min(float(min(reached)) / took, NEVER) if len(reached) else NEVER
            rows.append({**dict(zip(per, place, strict=True)), "norm": norm, "seed": seed, "value": value})
    return pd.DataFrame(rows, columns=[*per, "norm", "seed", "value"]).assign(quantity="speed")
