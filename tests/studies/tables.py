"""Measurement tables that a test makes up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from rnnnorm.engine.control import Interrupt
from rnnnorm.report.canvas import LIGHT
from rnnnorm.studies.framework.command import study as run_study
from rnnnorm.studies.framework.measurements import read, save
from rnnnorm.studies.framework.plots import Panel
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


PLAIN = {
    **{"supported": "supported", "opposite": "refuted", "negligible": "refuted"},
    **dict.fromkeys(("heterogeneous", "undecided"), "open"),
}


def verdicts(study: Study, table: pd.DataFrame) -> dict[str, str]:
    """Claim → whether measurements support it, refute it, or leave it open."""
    return {verdict.claim.key: PLAIN[verdict.verdict] for verdict in study.judge(table)}


def keep(rows: Iterable[dict[str, Any]], trial: Trial, out: Path) -> None:
    """Measure `rows` in a trial that trains nothing."""
    study: Any = SimpleNamespace(measure=lambda trial, trained: rows)
    work(study, replace(trial, config=None), out, Interrupt(lambda: None))


def drawn(panel: Panel) -> Axes:
    """The axes of a panel."""
    axes = Figure().subplots()
    panel.draw(axes, LIGHT)
    return axes


def run_tiny(name: str, settings: str, folder: Path) -> pd.DataFrame:
    """The table of `rnnnorm study NAME --quick -c FILE`, which succeeds and leaves a figure."""
    (folder / "mine.yaml").write_text(settings)
    args = [name, "--quick", "-c", str(folder / "mine.yaml"), "--jobs", "1", "--out", str(folder / "o")]
    assert run_study(args, Console(record=True, width=200, force_terminal=False)) == 0
    assert (folder / "o" / name / "figure.png").is_file()
    return read(folder / "o" / name)
