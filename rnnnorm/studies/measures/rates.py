"""Rates: out of trainings over a grid of learning rates the best one and the largest stable one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rnnnorm.studies.framework.measurements import where

POINT = ["norm", "batch", "seed"]


def grid_of(octaves: Sequence[int], per_octave: int) -> list[float]:
    """Learning rates: 2 to the powers from `octaves[0]` to `octaves[1]`, `per_octave` of them in each octave."""
    low, high = octaves
    return [2.0 ** (power / per_octave) for power in range(low * per_octave, high * per_octave + 1)]


def epochs_for(config: Mapping[str, Any], batch_size: int, min_steps: int) -> int:
    """Epochs: as configured, or as many as make `min_steps` steps, if the data say how many sequences there are."""
    count = config["data"].get("init_args", {}).get("num_train")
    epochs = int(config["trainer"]["max_epochs"])
    return max(epochs, math.ceil(min_steps * batch_size / count)) if count else epochs


def rates(m: pd.DataFrame) -> pd.DataFrame:
    """The `best` rate, its `best_loss` and the largest `stable` rate: columns beside norm, batch size and seed.

    A training is stable if its final loss is below the loss before it. Where none is, there is no row.

    Args:
        m: measurements with `first_loss` and `final_loss` by `learning_rate`.
    """
    ends = where(m, quantity=["first_loss", "final_loss"])
    if ends.empty or not {"learning_rate", *POINT} <= set(ends):
        return pd.DataFrame(columns=[*POINT, "best", "best_loss", "stable"])
    index = [*POINT, "learning_rate"]
    wide = ends.pivot_table(index=index, columns="quantity", values="value", sort=False).reset_index()
    stable = wide[wide["final_loss"] < wide["first_loss"]]
    groups = stable.groupby(POINT, sort=False)
    best = stable.loc[groups["final_loss"].idxmin()].rename(
        columns={"learning_rate": "best", "final_loss": "best_loss"}
    )
    largest = groups["learning_rate"].max().rename("stable").reset_index()
    return best[[*POINT, "best", "best_loss"]].merge(largest, on=POINT)
