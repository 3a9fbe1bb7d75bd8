"""Derived quantities: tidy tables computed from tidy tables."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from rnnnorm.studies.framework.measurements import where


def best_by(m: pd.DataFrame, quantity: str, over: str, per: Sequence[str], statistic: str = "mean") -> pd.DataFrame:
    """The rows of the best value of a column (the best learning rate), and those that have no value there.

    Args:
        m: measurements.
        quantity: the best has the smallest; of equal ones the first.
        over: the column: `learning_rate`.
        per: columns; each combination of their values has a best of its own.
        statistic: over seeds: "mean"; or "median", so that one diverged seed decides nothing.
    """
    if over not in m:
        return m
    rows = where(m, quantity=quantity).dropna(subset=[over])
    middle = rows.groupby([*per, over], sort=False, dropna=False)["value"].agg(statistic).reset_index()
    best = middle.sort_values("value", kind="stable").drop_duplicates([*per])[[*per, over]]
    found = m[[*per, over]].merge(best, how="left", indicator=True)["_merge"] == "both"
    return m[found.to_numpy() | m[over].isna()]


def paired(
    m: pd.DataFrame,
    quantity: str,
    against: str | Mapping[str, Any],
    name: str,
    how: Callable[[pd.Series, pd.Series], pd.Series] = operator.sub,
    apart: str = "",
) -> pd.DataFrame:
    """A new quantity at every point that has a reference: its value combined with that of the reference.

    Args:
        m: measurements.
        quantity: which.
        against: the reference: a norm, or column → value; all other columns, the seed among them, are as at the point.
            `{"quantity": "steps"}` is another quantity at the same point.
        name: of the new quantity.
        how: from the values of points and references to new ones; without, their difference.
        apart: a column in which both may differ, as best learning rates do.
    """
    fixed = {"norm": against} if isinstance(against, str) else dict(against)
    rows = where(m, quantity=quantity)
    reference = where(m, **{"quantity": quantity, **fixed})
    shared = [column for column in rows if column not in (*fixed, "value", apart)]
    both = rows.drop(reference.index, errors="ignore").merge(
        reference[[*shared, "value"]], on=shared, suffixes=("", "_reference")
    )
    made = both.assign(quantity=name, value=how(both["value"], both["value_reference"]))
    return made.drop(columns="value_reference")


def by_others(rows: pd.DataFrame, over: str, per: Sequence[str], greatest: bool = False) -> pd.DataFrame:
    """Each seed's row at the level that the other seeds choose: the one with their least mean, or their greatest.

    A seed that chose by its own values would be scored by its own noise: the expected maximum over k equal levels with
    noise σ is about σ √(2 ln k) above them, that of a level chosen by others is not. A single seed chooses by itself.

    Args:
        rows: of one quantity, a value per seed and level.
        over: the column whose levels are chosen from.
        per: columns; each combination of their values is chosen for by itself.
        greatest: choose the greatest mean.
    """
    made = []
    for _, group in rows.groupby([*per], sort=False):
        table = group.pivot_table(index="seed", columns=over, values="value", sort=False)
        for seed, mine in group.groupby("seed", sort=False):
            others = table.drop(index=seed) if len(table) > 1 else table
            means = others.mean().reindex(mine[over].unique())
            level = means.idxmax() if greatest else means.idxmin()
            made.append(mine[mine[over] == level].iloc[:1])
    return pd.concat(made, ignore_index=True) if made else rows


def mapped(m: pd.DataFrame, quantity: str, name: str, how: Callable[[pd.DataFrame], Any]) -> pd.DataFrame:
    """A new quantity made from the rows of one.

    Args:
        m: measurements.
        quantity: which.
        name: of the new quantity.
        how: from the rows to the new values: `lambda rows: np.log2(rows["value"])`.
    """
    rows = where(m, quantity=quantity)
    return rows.assign(quantity=name, value=how(rows) if len(rows) else rows["value"])
