"""Tuning: the trials by which each norm got values of its own, read from `tuning.json`, and expected best scores."""

from __future__ import annotations

import json
import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

NAME = "tuning.json"

Scores = Mapping[str, Sequence[float]]
"""Norm → scores of its final runs."""


@dataclass(frozen=True)
class Trial:
    """One trial.

    Args:
        norm: its norm.
        round: its round.
        values: key → value.
        score: best validation metric; NaN if it diverged.
        epochs: for which it was trained.
        whole: whether it was trained to the end; others were stopped at a rung.
        chosen: whether it is the best one of its norm and round.
    """

    norm: str
    round: int
    values: Mapping[str, Any]
    score: float
    epochs: int
    whole: bool
    chosen: bool


@dataclass(frozen=True)
class Choice:
    """Values of a norm that a round has chosen; None if all its trials diverged."""

    norm: str
    round: int
    values: Mapping[str, Any] | None
    edges: Mapping[str, str]


@dataclass(frozen=True)
class Tuning:
    """A search that has ended.

    Args:
        space: key → "kind" and "range".
        rounds: independent ones.
        halving: η of successive halving; 0 for none.
        rungs: epochs at which trials were compared; none without halving.
        seeds: of the trials, by round.
        metric: the validation metric.
        larger: whether larger ones are better.
        widened: ranges that were added: "round", "key", "end", "times" and "range".
        choices: by norm and round.
        trials: all of them.
    """

    space: Mapping[str, Mapping[str, str]]
    rounds: int
    halving: int
    rungs: Sequence[int]
    seeds: Sequence[int]
    metric: str
    larger: bool
    widened: Sequence[Mapping[str, Any]]
    choices: Sequence[Choice]
    trials: Sequence[Trial]

    @property
    def norms(self) -> list[str]:
        """All that were tuned."""
        return list(dict.fromkeys(choice.norm for choice in self.choices))

    @property
    def numeric(self) -> list[str]:
        """Keys with an axis, which is all but choices."""
        return [key for key, entry in self.space.items() if entry["kind"] != "choice"]

    @property
    def what(self) -> str:
        """The keys in words: `learning rate`, `learning rate and gradient clip val`."""
        names = [plain(key) for key in self.space]
        return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

    def of(self, norm: str, round: int | None = None) -> list[Trial]:
        """The trials of a norm, in one round or in all."""
        return [trial for trial in self.trials if trial.norm == norm and round in (None, trial.round)]

    def expected_best(self, norm: str) -> list[float]:
        """Expected best validation score of 1, 2, … n trials, mean over rounds; see `expected_best`."""
        curves = []
        for k in range(self.rounds):
            worst = [t.score for t in self.trials if t.round == k and math.isfinite(t.score)]
            bad = (min if self.larger else max)(worst, default=math.nan)
            scores = [t.score if math.isfinite(t.score) else bad for t in self.of(norm, k)]
            curves.append(expected_best(scores, self.larger))
        return [statistics.fmean(values) for values in zip(*curves, strict=False)]


def expected_best(scores: Sequence[float], larger: bool) -> list[float]:
    """Expected best of k scores drawn without replacement out of n, for k = 1 … n: the mean over all subsets.

        E_k = Σ_i x_(i) C(i - 1, k - 1) / C(n, k),   x_(1), …, x_(n) from the worst to the best

    After Dodge et al. 2019 (arXiv 1909.03004), who draw with replacement.
    """
    ranked, n = sorted(scores, reverse=not larger), len(scores)
    return [
        sum(score * math.comb(i, k - 1) for i, score in enumerate(ranked)) / math.comb(n, k) for k in range(1, n + 1)
    ]


def read_tuning(out: Path) -> Tuning | None:
    """The search in a folder; None if there was none, or its file is broken, which is logged as a warning."""
    path = out / NAME
    if not path.is_file():
        return None
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"missing key {error}" if isinstance(error, KeyError) else error
        log.warning("%s cannot be read (%s); the report leaves out how values were tuned", NAME, reason)
        return None


def _parse(content: Mapping[str, Any]) -> Tuning:
    trials = [
        Trial(
            str(entry["norm"]),
            int(entry["round"]),
            dict(entry["values"]),
            math.nan if entry["score"] is None else float(entry["score"]),
            int(entry["epochs"]),
            entry["status"] != "paused",
            bool(entry["chosen"]),
        )
        for entry in content["records"]
    ]
    choices = [
        Choice(str(entry["norm"]), int(entry["round"]), entry["values"], dict(entry["edges"]))
        for entry in content["choices"]
    ]
    space = {str(key): dict(entry) for key, entry in content["space"].items()}
    if not trials or not choices or not space:
        raise ValueError("expected trials, choices and a space")
    chosen = [choice.values for choice in choices if choice.values is not None]
    for values in (*chosen, *(trial.values for trial in trials)):
        numbers = [isinstance(values.get(key), int | float) for key in space if space[key]["kind"] != "choice"]
        if values.keys() != space.keys() or not all(numbers):
            raise ValueError(f"{dict(values)} are no values of {', '.join(space)}")
    return Tuning(
        space=space,
        rounds=int(content["rounds"]),
        halving=int(content["halving"]),
        rungs=[int(rung) for rung in content["rungs"]],
        seeds=[int(seed) for seed in content["seeds"]],
        metric=str(content["metric"]),
        larger=content["metric_mode"] == "max",
        widened=list(content["widened"]),
        choices=choices,
        trials=trials,
    )


def plain(key: str) -> str:
    """A key in words: `model.learning_rate` → `learning rate`."""
    return key.rpartition(".")[2].replace("_", " ")
