"""Words on a search: how values were chosen, what must be known of it, and the table of choices."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from rnnnorm.common.folder_names import norm_of_folder
from rnnnorm.report.numbers import number
from rnnnorm.report.numbers import some as some_of
from rnnnorm.report.tuning import Scores, Tuning, plain, read_tuning


def how_chosen(out: Path) -> str:
    """How the values were chosen at which norms are compared, in a sentence.

    Args:
        out: the folder of a comparison.
    """
    tuning = read_tuning(out)
    if tuning is not None and all(choice.values is None for choice in tuning.choices):
        return f"All norms have the configured {tuning.what}: each trial of tuning diverged."
    if tuning is not None:
        each = f" in each of {tuning.rounds} rounds" if tuning.rounds > 1 else ""
        counts = sorted(Counter((trial.norm, trial.round) for trial in tuning.trials).values())
        some = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
        lead = f"Each norm has its own {tuning.what}: the best of {some} trials{each} by validation {tuning.metric}."
        left = stale(out, tuning)
        return lead if not left else (
            f"{lead} Not so {some_of(left, ', ')}, left by an earlier search: compare again with these norms and seeds."
        )  # fmt: skip
    rate = _configured(out / "compare.yaml")
    return "" if rate is None else f"All norms share one learning rate, {rate:g}; `--tune` gives each its own."


def stale(out: Path, tuning: Tuning) -> list[str]:
    """Runs with other values than the search has chosen for their norm, `<norm>/seed=<k>`, as far as that is known.

    An earlier, smaller search leaves them where a later one is run for some of the norms or seeds only.

    Args:
        out: the folder of a comparison.
        tuning: the search that ended last in it.
    """
    chosen: dict[str, list[Any]] = {norm: [] for norm in tuning.norms}
    for choice in tuning.choices:
        chosen[choice.norm].append(choice.values)
    found = []
    for result in sorted(out.glob("*/seed=*/result.json")):
        folder = result.parent
        allowed = chosen.get(norm_of_folder(folder.parent.name), [])
        if None in allowed:  # it has the configured values
            continue
        try:
            config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
            values = {key: _value_of(config, key) for key in tuning.space}
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError, RecursionError):
            continue
        if values not in allowed:
            found.append(f"{folder.parent.name}/{folder.name}")
    return found


def _value_of(config: Any, key: str) -> Any:
    """The value of a key, `model.learning_rate`, in a run's configuration.

    Raises:
        KeyError: there is none.
        TypeError: one of the groups is no mapping.
    """
    for name in key.split("."):
        config = config["init_args"] if "class_path" in config and name != "init_args" else config
        config = config[name]
    return config


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
