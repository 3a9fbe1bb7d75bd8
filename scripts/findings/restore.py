"""From docs/findings/data back to the folder of a run, which then goes on from there, on whatever machine."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from rnnnorm.engine.records import write
from rnnnorm.studies import STUDIES
from rnnnorm.studies.framework.measurements import PACKED, read
from rnnnorm.studies.framework.page import opened
from rnnnorm.studies.framework.sitting import FILE as SITTINGS


def restore(data: Path, run: Path) -> int:
    """Measurements of every trial that was published, where `rnnnorm study` looks for them before it runs one.

    Weights and curves are not published, so that they cannot be restored; no measured trial needs them again.

    Args:
        data: published measurements.
        run: the folder of the run; nothing may be there yet.

    Returns:
        how many trials.

    Raises:
        SystemExit: the folder is there, nothing was published, or a trial was that its study does not have.
    """
    found = [name for name in STUDIES if (data / name / PACKED).is_file()]
    if not found:
        raise SystemExit(f"{data} holds no published study: expected folders <study>/ with {PACKED}")
    if run.exists():
        raise SystemExit(f"{run} is there already: expected a folder that is not")
    done = 0
    for name in found:
        study, table = opened(name, data / name), read(data / name)
        trials = {_key(trial.conditions, trial.norm, trial.seed): trial for trial in study.trials()}
        conditions = list(dict.fromkeys(key for trial in trials.values() for key in trial.conditions))
        for _, rows in table.groupby([*conditions, "norm", "seed"], dropna=False, sort=False):
            first = rows.iloc[0]
            key = _key({column: first[column] for column in conditions}, first["norm"], first["seed"])
            if key not in trials:
                raise SystemExit(f"{name} has no trial {key}: expected measurements of its settings in study.yaml")
            _write(rows.drop(columns=[*conditions, "norm", "seed"]), trials[key].measured(run / name))
            done += 1
        shutil.copyfile(data / name / "study.yaml", run / name / "study.yaml")
    if (data / SITTINGS).is_file():
        shutil.copyfile(data / SITTINGS, run / SITTINGS)
    return done


def _key(conditions: Mapping[str, Any], norm: str, seed: int) -> tuple[frozenset[tuple[str, Any]], str, int]:
    """A trial by what its condition has: what another one of the grid has besides is empty in the table."""
    return frozenset((column, one) for column, one in conditions.items() if not _empty(one)), norm, int(seed)


def _empty(cell: object) -> bool:
    return isinstance(cell, float) and math.isnan(cell)


def _write(rows: pd.DataFrame, path: Path) -> None:
    """The rows of one trial as a measurement leaves them: cells that are empty are no entries, infinities words."""
    written = []
    for row in rows.to_dict("records"):
        value = row.pop("value")
        plain = {
            key: cell if not isinstance(cell, float) or math.isfinite(cell) else str(cell)
            for key, cell in row.items()
            if not _empty(cell)
        }
        written.append({**plain, "value": None if _empty(value) else value if math.isfinite(value) else str(value)})
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, json.dumps(written, allow_nan=False) + "\n")
