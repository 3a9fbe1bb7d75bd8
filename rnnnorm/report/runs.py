"""Run folders, `<norm>/seed=<k>/`, read into one `RunResult` each."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rnnnorm.common.folder_names import norm_folder, norm_of_folder

log = logging.getLogger(__name__)

MODES = ("running", "population", "batch")
"""How batch normalization evaluates: moving averages, re-estimated statistics, or those of the test batch itself."""

HEADLINE = ("population", "running", "batch")
"""The evaluation modes in the order in which a norm is ranked by them, unless it says otherwise."""


@dataclass(frozen=True)
class Bucket:
    """The test score of one range of lengths or timesteps.

    Args:
        low: smallest length, or first step, inside.
        high: largest length, or last step, inside.
        count: elements scored.
        scores: evaluation mode → mean score.
    """

    low: int
    high: int
    count: int
    scores: Mapping[str, float]


@dataclass(frozen=True)
class RunResult:
    """One norm with one seed.

    Args:
        folder: where its TensorBoard events lie.
        norm: the normalizer's name, overrides included.
        seed: its seed.
        status: `finished`, `cut` (by `--max-minutes`), `diverged`, `unfinished` (no `result.json`) or `unreadable` (a
            broken one).
        problem: what is wrong with `result.json`, if anything.
        facts: the scalar entries of `result.json` (`steps`, `seconds`, `best_val`, …); missing ones are None.
        test: evaluation mode → metric → value on the test split; empty if there is none.
        buckets: `length` and `step` → scores by range.
    """

    folder: Path
    norm: str
    seed: int
    status: str
    problem: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    test: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    buckets: Mapping[str, tuple[Bucket, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The run's folder, relative to the comparison: `<norm>/seed=<k>`."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    def number(self, key: str) -> float:
        """A scalar entry of `result.json`; NaN if it is missing or null."""
        value = self.facts.get(key)
        return float(value) if isinstance(value, int | float) else math.nan

    def score(self, mode: str, metric: str) -> float:
        """A test metric in an evaluation mode; NaN if there is none."""
        return self.test.get(mode, {}).get(metric, math.nan)


def find_runs(out: Path) -> list[RunResult]:
    """Every run below `out`, ordered by norm and seed.

    A broken `result.json` is named in a logged warning, and its run reported as `unreadable`.

    Args:
        out: the folder that `rnnnorm compare` wrote.

    Raises:
        ValueError: `out` is no folder, or holds no run.
    """
    if not out.is_dir():
        raise ValueError(f"{out} is not a folder; expected the output folder of `rnnnorm compare`")
    folders = [path for path in out.glob("*/seed=*") if path.is_dir() and re.fullmatch(r"seed=\d+", path.name)]
    if not folders:
        raise ValueError(f"no runs in {out}; expected folders <norm>/seed=<k>/, as `rnnnorm compare --out` writes them")
    runs = sorted((read_run(folder) for folder in folders), key=lambda run: (run.norm, run.seed))
    for run in runs:
        if run.problem:
            log.warning("%s", run.problem)
    return runs


def read_data(out: Path) -> dict[str, Any]:
    """`data.json` of a comparison: the data and the baseline; nothing where it is missing or broken."""
    path = out / "data.json"
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        log.warning("%s cannot be read (%s); the report leaves out the facts on the data", path.name, error)
        return {}
    return data if isinstance(data, dict) else {}


def read_run(folder: Path) -> RunResult:
    """The run in `folder`, a `<norm>/seed=<k>/`."""
    norm = norm_of_folder(folder.parent.name)
    seed = int(folder.name.removeprefix("seed="))
    path = folder / "result.json"
    if not path.exists():
        return RunResult(folder, norm, seed, "unfinished")
    try:
        return _parse(folder, norm, seed, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        name = f"{folder.parent.name}/{folder.name}/{path.name}"
        reason = f"missing key {error}" if isinstance(error, KeyError) else error
        problem = f"{name} cannot be read ({reason}); delete it and compare again, and the run is evaluated anew"
        return RunResult(folder, norm, seed, "unreadable", problem)


def _parse(folder: Path, norm: str, seed: int, result: dict[str, Any]) -> RunResult:
    if not isinstance(result, dict):
        raise ValueError(f"expected an object, got {type(result).__name__}")
    status = result["status"]
    if status not in ("finished", "cut", "diverged"):
        raise ValueError(f"status is {status!r}, expected 'finished', 'cut' or 'diverged'")
    if status == "finished" and result.get("out_of_time"):  # as earlier versions said it
        status = "cut"
    its = str(result.get("norm", norm)), int(result.get("seed", seed))
    if (norm_folder(its[0]), its[1]) != (folder.parent.name, seed):
        raise ValueError(f"it is of another run, norm {its[0]} and seed {its[1]}")
    if result["metric_mode"] not in ("max", "min"):
        raise ValueError(f"metric_mode is {result['metric_mode']!r}, expected 'max' or 'min'")
    return RunResult(
        folder,
        *its,
        status,
        facts={
            key: value
            for key, value in {**result, **(result.get("timing") or {})}.items()
            if not isinstance(value, dict | list)
        },
        test={
            mode: {metric: _float(value) for metric, value in scores.items()}
            for mode, scores in (result.get("test") or {}).items()
        },
        buckets={
            axis: tuple(_bucket(entry) for entry in entries) for axis, entries in (result.get("buckets") or {}).items()
        },
    )


def _bucket(entry: dict[str, Any]) -> Bucket:
    scores = {mode: _float(entry[mode]) for mode in MODES if mode in entry}
    return Bucket(int(entry["low"]), int(entry["high"]), int(entry["count"]), scores)


def _float(value: float | None) -> float:
    """A number of `result.json`, where what is not finite is written as null."""
    return math.nan if value is None else float(value)
