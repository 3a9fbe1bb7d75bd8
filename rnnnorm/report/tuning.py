"""Tuning: the trials by which each norm got values of its own, read from `tuning.json`, and what they say."""

from __future__ import annotations

import json
import logging
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rnnnorm.report.summary import number

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


def how_chosen(out: Path) -> str:
    """How the values were chosen at which norms are compared, in a sentence.

    Args:
        out: the folder of a comparison.
    """
    tuning = read_tuning(out)
    if tuning is not None:
        each = f" in each of {tuning.rounds} rounds" if tuning.rounds > 1 else ""
        counts = sorted(Counter((trial.norm, trial.round) for trial in tuning.trials).values())
        some = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
        return f"Each norm has its own {tuning.what}: the best of {some} trials{each} by validation {tuning.metric}."
    rate = _configured(out / "compare.yaml")
    return "" if rate is None else f"All norms share one learning rate, {rate:g}; `--tune` gives each its own."


def _configured(path: Path) -> float | None:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        return None if config.get("tune") else float(config["model"]["init_args"]["learning_rate"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError, RecursionError):
        return None


def said(tuning: Tuning, validated: Scores) -> list[str]:
    """What must be known of a search, sentence by sentence; norms stand in backticks.

    Args:
        tuning: the search.
        validated: best validation scores of the final runs.
    """
    found = []
    for key in tuning.space:
        wider = [entry for entry in tuning.widened if entry["key"] == key]
        if wider:
            ranges = ", ".join(dict.fromkeys(str(entry["range"]) for entry in wider))
            found.append(
                f"The best {plain(key)} of some norm was at an end of the range, so that all norms tried more values "
                f"beyond it ({ranges})."
            )
        for end in ("low", "high"):
            norms = [c.norm for c in tuning.choices if c.edges.get(key) == end]
            if norms:
                names = ", ".join(f"`{norm}`" for norm in dict.fromkeys(norms))
                extreme = "smallest" if end == "low" else "largest"
                found.append(f"The {plain(key)} of {names} is the {extreme} tried: a better one may lie beyond.")
    lost = [f"`{c.norm}`" for c in tuning.choices if c.values is None]
    if lost:
        names = ", ".join(dict.fromkeys(lost))
        found.append(f"All trials of {names} diverged; its runs have the configured values.")
    for norm in tuning.norms:
        own = sorted(t.score for t in tuning.of(norm) if math.isfinite(t.score))
        runs, best = list(validated.get(norm, ())), [t.score for t in tuning.of(norm) if t.chosen]
        if not runs or not best:
            continue
        reached, usual = statistics.median(runs), statistics.median(own)
        if (reached < usual) if tuning.larger else (reached > usual):
            found.append(
                f"The best trials of `{norm}` reached {number(statistics.median(best))}, its runs {number(reached)}, "
                "worse than half of its trials: what was chosen works for some seeds only. More rounds are a remedy."
            )
    if tuning.halving:
        rungs = ", ".join(map(str, tuning.rungs[:-1]))
        found.append(
            f"Trials were compared after {rungs} of {tuning.rungs[-1]} epochs, and the best 1/{tuning.halving} went "
            "on: values that learn slowly at first are at a disadvantage."
        )
    return found


def choices_table(tuning: Tuning, validated: Scores, tests: Scores) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the choices: each round's, their median, median scores, how many trials diverged.

    Args:
        tuning: the search.
        validated: best validation scores of the final runs, which did not choose: a best trial is a lucky one, too.
        tests: their test scores.
    """
    header = ["norm"]
    for key in tuning.space:
        header += [f"{plain(key)}{f', round {k}' if tuning.rounds > 1 else ''}" for k in range(tuning.rounds)]
        header += [f"{plain(key)}, median"] if tuning.rounds > 1 and key in tuning.numeric else []
    header += [f"validation {tuning.metric}", "of its runs", f"test {tuning.metric}", "trials", "diverged"]
    rows = []
    for norm in tuning.norms:
        row = [norm]
        for key in tuning.space:
            values = [c.values[key] if c.values else None for c in tuning.choices if c.norm == norm]
            row += ["–" if value is None else _value(value) for value in values]
            known = [value for value in values if isinstance(value, int | float)]
            if tuning.rounds > 1 and key in tuning.numeric:
                row.append(_value(statistics.median(known)) if known else "–")
        best = [trial.score for trial in tuning.of(norm) if trial.chosen]
        diverged = sum(math.isnan(trial.score) for trial in tuning.of(norm))
        scores = (best, validated.get(norm, ()), tests.get(norm, ()))
        row += [number(statistics.median(some)) if some else "–" for some in scores]
        rows.append([*row, str(len(tuning.of(norm))), str(diverged)])
    return header, rows


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def markdown(out: Path, validated: Scores, tests: Scores) -> str:
    """How values were chosen, with a table of the choices where there was a search, as Markdown."""
    tuning, lead = read_tuning(out), how_chosen(out)
    lines = ["", lead, ""] if lead else []
    if tuning is not None:
        header, rows = choices_table(tuning, validated, tests)
        lines += ["| " + " | ".join(row) + " |" for row in (header, ["---"] + ["---:"] * (len(header) - 1), *rows)]
        lines += ["", *(f"- {sentence}" for sentence in said(tuning, validated)), ""]
    return "\n".join(lines)
