"""Measurement tables that a test makes up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from rnnnorm.engine.control import Interrupt
from rnnnorm.studies.framework.measurements import read, save
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.framework.work import work


def made(trials: Iterable[Trial], rows: Callable[[Trial], Iterable[dict[str, Any]]]) -> pd.DataFrame:
    """The table of a study whose trials had measured `rows(trial)`."""
    return pd.DataFrame(
        [{**trial.conditions, "norm": trial.norm, "seed": trial.seed, **row} for trial in trials for row in rows(trial)]
    )


def reread(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The table after a round trip through `measurements.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    save(table, folder)
    return read(folder)


def verdicts(study: Study, table: pd.DataFrame) -> dict[str, str]:
    """Claim → verdict."""
    return {verdict.claim.key: verdict.verdict for verdict in study.judge(table)}


def keep(rows: Iterable[dict[str, Any]], trial: Trial, out: Path) -> None:
    """Measure `rows` in a trial that trains nothing."""
    study: Any = SimpleNamespace(measure=lambda trial, trained: rows)
    work(study, replace(trial, config=None), out, Interrupt(lambda: None))
