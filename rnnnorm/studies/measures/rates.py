"""Out of trainings over a grid of learning rates: the best rate, and the largest stable one."""

from __future__ import annotations

import math

import pandas as pd

from rnnnorm.studies.framework.estimate import Estimate, estimate
from rnnnorm.studies.framework.measurements import difference, per_seed


def chosen(m: pd.DataFrame) -> pd.DataFrame:
    """Per norm, batch size and seed the `best` rate, its `best_loss`, and the largest `stable` one.

    A training is stable if its final loss is below the loss before it. Where none is, there is no row.
    """
    keys = ["norm", "batch", "seed"]
    rows = []
    ends = m[m["quantity"].isin(["first_loss", "final_loss"])] if "quantity" in m else m
    if {"learning_rate", *keys} <= set(m) and len(ends):
        wide = ends.pivot_table(index=[*keys, "learning_rate"], columns="quantity", values="value", sort=False)
        wide = wide[wide["final_loss"] < wide["first_loss"]].reset_index()
        for (norm, size, seed), group in wide.groupby(keys, sort=False) if len(wide) else ():
            best = group.loc[group["final_loss"].idxmin()]
            here = {"norm": norm, "batch": size, "seed": seed}
            rows += [
                {**here, "quantity": "best", "value": best["learning_rate"]},
                {**here, "quantity": "best_loss", "value": best["final_loss"]},
                {**here, "quantity": "stable", "value": group["learning_rate"].max()},
            ]
    return pd.DataFrame(rows, columns=[*keys, "quantity", "value"])


def sizes_of(m: pd.DataFrame) -> list[int]:
    """The batch sizes in a table, in order."""
    return sorted({int(size) for size in m["batch"].dropna()}) if "batch" in m else []


def apart(a: pd.DataFrame, norm: str, b: pd.DataFrame, other: str, size: int) -> Estimate:
    """Octaves from a rate of one norm to a rate of another (or the same), seed by seed."""
    upper, lower = per_seed(a, norm=norm, batch=size), per_seed(b, norm=other, batch=size)
    return estimate(difference(upper.map(math.log2), lower.map(math.log2)))


def exponents(best: pd.DataFrame, norm: str, a: int, b: int) -> list[float]:
    """The power p of a best rate that grows with B^p from batch size a to b, seed by seed."""
    small, large = per_seed(best, norm=norm, batch=a), per_seed(best, norm=norm, batch=b)
    octaves = math.log2(b / a)
    return [value / octaves for value in difference(large.map(math.log2), small.map(math.log2))]
