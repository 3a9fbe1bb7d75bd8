"""From the measurements of a study to its table, figure and verdicts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from rnnnorm._version import __version__
from rnnnorm.bench.machine import describe as machine
from rnnnorm.bench.machine import one_line
from rnnnorm.compare.comparison import differences
from rnnnorm.engine.records import write, write_json
from rnnnorm.studies.framework.compose import save_figure
from rnnnorm.studies.framework.measurements import FILE, collect, save
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.framework.verdict import Verdict

VERDICT = "verdict.json"


def conclude(study: Study, out: Path, command: str = "") -> list[Verdict]:
    """Write `measurements.csv`, `figure.png`, `figure.svg` and `verdict.json`.

    Args:
        study: which.
        out: its folder; trials that have not been measured are left out.
        command: what reproduces it.

    Returns:
        The verdicts; none if nothing has been measured.
    """
    table = collect(study.trials(), out, study.columns)
    if table.empty:
        return []
    save(table, out)
    verdicts = study.verdicts(table)
    write_json(out / VERDICT, describe(study, verdicts, table, command))
    panels = study.panels(table)
    if panels:
        save_figure(panels, out, study.question)
    return verdicts


def describe(study: Study, verdicts: Sequence[Verdict], table: pd.DataFrame, command: str) -> dict[str, Any]:
    """What stands in `verdict.json`."""
    trials = study.trials()
    measured = table.groupby([*(c for c in _conditions(study) if c in table), "norm", "seed"], dropna=False).ngroups
    return {
        "study": study.name,
        "question": study.question,
        "scale": "quick" if study.settings.quick else "full",
        "trials": len(trials),
        "measured": measured,
        "seeds": len(study.settings.seeds),
        "command": command,
        "version": __version__,
        "machine": one_line(machine(torch.device("cpu"))),
        "verdicts": [verdict.as_dict() for verdict in verdicts],
        "rates": study.about_rates,
        "findings": study.findings(table),
    }


def _conditions(study: Study) -> list[str]:
    return list(dict.fromkeys(key for trial in study.trials() for key in trial.conditions))


def read_verdict(out: Path) -> dict[str, Any] | None:
    """What a study has concluded, or None if it has not."""
    try:
        content = json.loads((out / VERDICT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def check_settings(study: Study, out: Path, overwrite: bool) -> None:
    """Make sure that a folder can take this study, with these settings; more seeds or norms than before are welcome.

    Raises:
        ValueError: it holds trials of another configuration, or two trials would share a folder.
    """
    folders: dict[Path, Trial] = {}
    for trial in study.trials():
        other = folders.setdefault(trial.run(out).folder, trial)
        if other is not trial:
            raise ValueError(
                f"study {study.name!r} has two trials {trial.name()}: {other.conditions}, {trial.conditions}"
            )
    lines = _changes(study, out)
    if lines and not overwrite:
        raise ValueError(
            f"{out} holds measurements of another configuration:\n  " + "\n  ".join(lines) + "\n"
            "choose another folder with --out, or --overwrite to delete them"
        )


def note_settings(study: Study, out: Path) -> None:
    """Write `study.yaml`, having deleted what another configuration left there."""
    if _changes(study, out):
        for folder in out.glob("*/*/seed=*"):
            shutil.rmtree(folder)
        for name in (FILE, VERDICT, "figure.png", "figure.svg"):
            (out / name).unlink(missing_ok=True)
    write(out / "study.yaml", yaml.safe_dump(_described(study), sort_keys=False))


def _described(study: Study) -> dict[str, Any]:
    described: dict[str, Any] = yaml.safe_load(yaml.safe_dump(study.settings.describe(), sort_keys=False))
    return described


def _changes(study: Study, out: Path) -> list[str]:
    """Where the settings differ from those of the trials in a folder, one line per key."""
    path = out / "study.yaml"
    if not path.is_file() or not any(out.glob("*/*/seed=*")):
        return []
    there, now = yaml.safe_load(path.read_text(encoding="utf-8")), _described(study)
    if not isinstance(there, dict):
        return [f"{path} cannot be read"]
    for key in ("seeds", "norms", "quick"):  # what a trial is, its folder says
        there.pop(key, None)
        now.pop(key, None)
    return differences(there, now)
