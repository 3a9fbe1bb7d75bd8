"""What the study of step statistics compares: one network under shared and under per-step statistics, seed by seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from rnnnorm.studies.framework.measurements import difference, per_seed, where
from rnnnorm.studies.measures.step_distances import settling

MODES = ("population", "running")
PLACES = {"input": "W_ih x", "hidden": "W_hh h", "cell": "c"}
DATA = {"shakespeare": "Tiny Shakespeare"}
"""Data that a condition is named after; of the study's own, and of the user's, nothing is said."""


def points_of(m: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The combinations of data, state, cell norm and gain that were measured under batch normalization."""
    columns = ["data", "state", "cell", "gain"]
    if not set(columns) <= set(m):
        return
    for values in m[columns].dropna().drop_duplicates().itertuples(index=False):
        yield dict(zip(columns, values, strict=True))


def extra(m: pd.DataFrame) -> Iterator[tuple[dict[str, Any], list[float]]]:
    """Loss under shared minus under per-step statistics, seed by seed, evaluated as trained."""
    loss = where(m, quantity="loss")
    for mode in MODES:
        for here in points_of(m):
            same = where(loss, **here, mode=mode, read=here["state"])
            values = difference(per_seed(same, norm="bn-shared"), per_seed(same, norm="bn-timestep"))
            if values:
                yield {**here, "mode": mode}, values


def trap(m: pd.DataFrame) -> Iterator[tuple[dict[str, Any], list[float]]]:
    """Population statistics of reset states, used on a carried state: loss under per-step minus under shared ones."""
    loss = where(m, quantity="loss", mode="population", read="carried")
    for here in points_of(m):
        if here["state"] == "reset":
            rows = where(loss, **here)
            values = difference(per_seed(rows, norm="bn-timestep"), per_seed(rows, norm="bn-shared"))
            if values:
                yield here, values


def settled(m: pd.DataFrame) -> Iterator[tuple[dict[str, Any], str, list[float]]]:
    """Steps until the per-step statistics of a place have settled, seed by seed, under each condition."""
    rows = where(m, quantity="distance", norm="bn-timestep")
    for here in points_of(m) if "place" in m else ():
        for place, of_place in where(rows, **here).groupby("place", sort=False):
            if place != "input":  # it does not depend on the state
                along = [one.sort_values("t")["value"].tolist() for _, one in of_place.groupby("seed")]
                yield here, str(place), [float(settling(values)) for values in along]


def against(m: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Each value minus that of bn-timestep at the same keys."""
    m = m[m["mode"].isin(MODES)] if "mode" in m else m.iloc[:0]
    base = where(m, norm="bn-timestep")[[*keys, "value"]]
    both = m.merge(base, on=keys, suffixes=("", "_base"))
    both["value"] = both["value"] - both["value_base"]
    return both


def words(here: dict[str, Any]) -> str:
    """A condition as a reader would say it."""
    parts = [
        f"{here['state']} state",
        "cell norm" if here["cell"] == "yes" else "no cell norm",
        f"gain {here['gain']:g}",
    ]
    parts += [f"{here['mode']} statistics"] if "mode" in here else []
    parts += [DATA[here["data"]]] if here.get("data") in DATA else []
    return ", ".join(parts)
