"""The tidy table of everything a study has measured: one number per row."""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rnnnorm.engine.records import write
from rnnnorm.studies.framework.trial import Row, Trial

FILE = "measurements.csv"
PACKED = f"{FILE}.xz"


def collect(trials: Iterable[Trial], out: Path, columns: Iterable[str] = ()) -> pd.DataFrame:
    """The measurements of all trials that have been measured.

    Every condition of the grid is a column, also where none of its trials has been measured yet; so are `columns`.
    """
    rows = []
    trials = list(trials)
    conditions = dict.fromkeys(key for trial in trials for key in trial.conditions)
    for trial in trials:
        for row in trial.read(out) or ():
            rows.append({**trial.conditions, "norm": trial.norm, "seed": trial.seed, **_infinite(row)})
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    table["value"] = table["value"].astype(float)
    others = dict.fromkeys([*(column for column in table if column not in (*conditions, "value")), *columns])
    return table.reindex(columns=[*conditions, *others, "value"])


def _infinite(row: Row) -> dict[str, Any]:
    """JSON has no infinity: it is kept as a word."""
    words: Mapping[Any, float] = {"inf": np.inf, "-inf": -np.inf}
    return {key: words.get(value, value) for key, value in row.items()}


def save(table: pd.DataFrame, folder: Path) -> Path:
    """Write `measurements.csv`."""
    path = folder / FILE
    write(path, table.to_csv(index=False))
    return path


def pack(table: pd.DataFrame, folder: Path, digits: int | None = None) -> Path:
    """Write `measurements.csv.xz`, the same bytes for the same table.

    Args:
        table: the measurements.
        folder: where.
        digits: significant digits of the values; None keeps every bit.
    """
    if digits is not None:
        table = table.assign(value=[float(f"{value:.{digits}g}") for value in table["value"]])
    path = folder / PACKED
    path.write_bytes(lzma.compress(table.to_csv(index=False).encode(), preset=9))
    return path


def read(folder: Path) -> pd.DataFrame:
    """Read `measurements.csv`, or `measurements.csv.xz` where only that is there.

    Raises:
        ValueError: there is neither.
    """
    path = folder / FILE
    if not path.is_file():
        path = folder / PACKED
    if not path.is_file():
        raise ValueError(f"{folder / FILE} does not exist: run the study first")
    # A norm may be called "none", which pandas would take for a missing value.
    return pd.read_csv(path, keep_default_na=False, na_values=[""], float_precision="round_trip")


def where(m: pd.DataFrame, **chosen: Any) -> pd.DataFrame:
    """The rows with these values in these columns; a column that does not exist has no rows.

    A list of values means any of them.
    """
    for column, value in chosen.items():
        if column not in m:
            return m.iloc[:0]
        m = m[m[column].isin(value) if isinstance(value, list | tuple | set) else m[column] == value]
    return m


def per_seed(m: pd.DataFrame, **chosen: Any) -> pd.Series:
    """The value of each seed, index seed, averaged where several rows match."""
    rows = where(m, **chosen)
    if rows.empty:
        return pd.Series(dtype=float)
    return rows.groupby("seed")["value"].mean()


def difference(a: pd.Series, b: pd.Series) -> list[float]:
    """A - b, seed by seed: seeds share weights and batches, so differences are paired; 0 where both diverged."""
    both = a.index.intersection(b.index)
    return [0.0 if a[seed] == b[seed] else float(a[seed] - b[seed]) for seed in both]
