"""Folders of several comparisons, read into one `DataSet` each, with one name per norm and one baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rnnnorm.norms.presets import parse_norm
from rnnnorm.report.differences import Difference
from rnnnorm.report.numbers import listed
from rnnnorm.report.runs import RunResult, find_runs, read_data
from rnnnorm.report.summary import Row, Summary, summarize


@dataclass(frozen=True)
class DataSet:
    """One comparison among several.

    Args:
        label: its folder's name, with as many parents as tell it from the others.
        folder: where its runs are.
        summary: its table; differences are from the common baseline, if it has a score there.
        compared: whether it has.
        data: the class of its data module; empty if it is not known.
    """

    label: str
    folder: Path
    summary: Summary
    compared: bool
    data: str

    @cached_property
    def rows(self) -> Mapping[str, Row]:
        """The rows of its table by norm."""
        return {row.norm: row for row in self.summary.rows}

    @cached_property
    def differences(self) -> Mapping[str, Difference]:
        """Differences from the baseline by norm; none if the baseline has no score."""
        return {one.norm: one for one in self.summary.differences.others} if self.compared else {}


@dataclass(frozen=True)
class Several:
    """Comparisons on several data sets.

    Args:
        sets: in the order in which they were given.
        baseline: the norm that the others are compared with, the same everywhere.
        spelled: notes on norms that the folders write differently.
    """

    sets: tuple[DataSet, ...]
    baseline: str
    spelled: tuple[str, ...] = ()

    @property
    def norms(self) -> list[str]:
        """All norms, best first: by the mean over their data sets of the place in the ranking, from 0 to 1."""
        places: dict[str, list[float]] = {}
        for one in self.sets:
            for norm in one.rows:
                places.setdefault(norm, [])
            ranked = [row.norm for row in one.summary.ranked]
            for k, norm in enumerate(ranked):
                places[norm].append(k / max(len(ranked) - 1, 1))
        return sorted(places, key=lambda norm: (_mean(places[norm]), norm))

    @property
    def missing(self) -> dict[str, list[str]]:
        """Norm → labels of the data sets that have no score of it."""
        found = {
            norm: [one.label for one in self.sets if norm not in one.rows or not one.rows[norm].headline.values]
            for norm in self.norms
        }
        return {norm: its for norm, its in found.items() if its}


def read_several(folders: Sequence[Path | str], baseline: str | None = None) -> Several:
    """Read the folders of several comparisons.

    Norms that compute the same under another spelling (`bn:gain=1:max_steps=9`, `bn:max_steps=9:gain=1.0`) have the
    name that was seen first.

    Args:
        folders: outputs of `rnnnorm compare`.
        baseline: the norm that the others are compared with; None: the one that all folders name, or else `none`.

    Raises:
        ValueError: a folder is given twice or is no comparison, folders name different baselines of which none is
            `none` throughout, or no folder has a score of the baseline.
    """
    paths = [Path(folder) for folder in folders]
    for k, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:k]]:
            raise ValueError(f"{path} is given twice; expected folders of different comparisons")
    names: dict[tuple[Any, ...], str] = {}
    spelled: list[str] = []
    found = []
    for path, label in zip(paths, _labels(paths), strict=True):
        runs = find_runs(path)
        found.append((path, label, _one_name(runs, names, label, spelled), read_data(path)))
    named = {label: str(data.get("baseline") or "none") for _, label, _, data in found}
    base = _baseline(baseline, named, names, [{run.norm for run in runs} for _, _, runs, _ in found])
    sets = []
    for path, label, runs, data in found:
        try:
            summary = summarize(runs, base)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        compared = summary.differences.baseline == base
        sets.append(DataSet(label, path, summary, compared, str(data.get("data", "")).rpartition(".")[2]))
    if not any(one.compared for one in sets):
        raise ValueError(
            f"no folder has a test score of the baseline {base}; --baseline takes one of: "
            f"{', '.join(dict.fromkeys(row.norm for one in sets for row in one.summary.ranked)) or 'none has a score'}"
        )
    return Several(tuple(sets), base, tuple(spelled))


def _labels(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that differ."""
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(its[-length:]).lstrip("/") for its in parts]
        if len(set(labels)) == len(labels):
            break
    return labels


def _key(norm: str) -> tuple[Any, ...]:
    """What a norm computes; the text itself of one that is not known here."""
    try:
        return parse_norm(norm).effective
    except (ValueError, ImportError):
        return (norm,)


def _one_name(
    runs: Sequence[RunResult], names: dict[tuple[Any, ...], str], label: str, spelled: list[str]
) -> list[RunResult]:
    """The runs under the names that their norms have in the folders before; what is renamed is noted."""
    own = list(dict.fromkeys(run.norm for run in runs))
    renamed: dict[str, str] = {}
    for norm in own:
        first = names.setdefault(_key(norm), norm)
        # Two spellings in one folder are two rows there, and stay so.
        if first != norm and first not in own and first not in renamed.values():
            renamed[norm] = first
            spelled.append(f"{norm} of {label} is {first}, written differently.")
    return [replace(run, norm=renamed.get(run.norm, run.norm)) for run in runs]


def _baseline(
    given: str | None, named: Mapping[str, str], names: Mapping[tuple[Any, ...], str], norms: Sequence[set[str]]
) -> str:
    """The common baseline; see `read_several`."""
    every = sorted(set().union(*norms))
    if given is not None:
        base = given if given in every else names.get(_key(given), given)
        if base not in every:
            raise ValueError(f"--baseline {given}: no folder has runs of it; there are: {', '.join(every)}")
        return base
    wanted = {norm if norm in every else names.get(_key(norm), norm) for norm in named.values()}
    if len(wanted) == 1:
        return wanted.pop()
    if all("none" in its for its in norms):
        return "none"
    said = listed([f"{norm} ({label})" for label, norm in named.items()])
    raise ValueError(f"the comparisons have different baselines, {said}; --baseline NORM says which one to take")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.inf
