"""Files of a search that has ended: `tuning.json` for the report, `tuning.csv`, and figures for TensorBoard."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from rnnnorm.compare.halving import Key, Plan, Record
from rnnnorm.compare.search import Search
from rnnnorm.engine.records import write, write_json
from rnnnorm.engine.run import TUNING
from rnnnorm.report.tuning import NAME, read_tuning
from rnnnorm.report.tuning_figures import pictures

FILES = (NAME, "tuning.csv")


def write_tuning(out: Path, search: Search, found: Plan, results: Mapping[Key, Mapping[str, Any]]) -> None:
    """Write the trials and choices of a search into the folder of its comparison.

    Args:
        out: the folder.
        search: what was tuned.
        found: its choices.
        results: trial → its `result.json`.
    """
    content = summarize(search, found, results)
    before = (out / NAME).read_bytes() if (out / NAME).is_file() else b""
    write_json(out / NAME, content)
    write(out / FILES[1], _table(search, content))
    if (out / NAME).read_bytes() != before or not any((out / TUNING).glob("events.out.tfevents.*")):
        _log(out)


def summarize(search: Search, found: Plan, results: Mapping[Key, Mapping[str, Any]]) -> dict[str, Any]:
    """What stands in `tuning.json`; the trials in the order of norm, round and point."""
    kinds = {(result["metric"], result["metric_mode"]) for result in results.values()}
    if len(kinds) > 1:
        raise ValueError(f"the trials of one search must share one metric, found {sorted(kinds)}")
    metric, mode = next(iter(kinds))
    norms = list(dict.fromkeys(norm for norm, _ in found.choices))
    trials, choices = [], []
    for norm in norms:
        for number in range(search.rounds):
            chosen = found.choices[norm, number]
            for point in search.points(number, found.widenings[number]):
                result = results[norm, number, point.name]
                trials.append(
                    {"norm": norm, "round": number, "trial": point.name, "seed": result["seed"]}
                    | {"values": dict(point.values), "status": result["status"], "epochs": result["epochs"]}
                    | {"steps": result["steps"], "seconds": result["seconds"]}
                    | {"score": _score(result), "chosen": chosen.point == point}
                )
            choices.append(
                {"norm": norm, "round": number, "edges": dict(chosen.edges)}
                | {"trial": chosen.point.name if chosen.point else None}
                | {"values": dict(chosen.point.values) if chosen.point else None}
            )
    widened = [
        {"round": number, "key": w.key, "end": w.end, "times": w.times, "range": dim.beyond(w.end, w.times).text}
        for number, widenings in enumerate(found.widenings)
        for w in widenings
        for dim in search.dimensions
        if dim.key == w.key
    ]
    space = {dim.key: {"kind": dim.kind, "range": dim.text} for dim in search.dimensions}
    return {
        "space": space,
        **{"trials": search.trials, "rounds": search.rounds, "halving": search.halving},
        "rungs": [*found.rungs] if len(found.rungs) > 1 else [],
        **{"seeds": search.seeds, "metric": metric, "metric_mode": mode},
        **{"widened": widened, "choices": choices, "records": trials},
    }


def _score(result: Mapping[str, Any]) -> float | None:
    """The best validation score; None where the trial diverged."""
    if result["status"] == "diverged":
        return None
    larger = result["metric_mode"] == "max"
    scores = tuple((int(epoch), float(score)) for epoch, score in result["scores"])
    score = Record(scores=scores).score(2**62, larger)
    return score if math.isfinite(score) else None


def _table(search: Search, content: Mapping[str, Any]) -> str:
    """One line per trial."""
    keys, rest = [dim.key for dim in search.dimensions], ("status", "epochs", "steps", "seconds", "score")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["norm", "round", "trial", "seed", *keys, *rest, "chosen"])
    for trial in content["records"]:
        first = [trial[name] for name in ("norm", "round", "trial", "seed")]
        values = [trial["values"][key] for key in keys]
        writer.writerow([*first, *values, *(trial[name] for name in rest), int(trial["chosen"])])
    return text.getvalue()


def _log(out: Path) -> None:
    """The figures, to TensorBoard: a learning rate is no step, so scalars could not show them."""
    folder = out / TUNING
    for events in folder.glob("events.out.tfevents.*"):
        events.unlink()
    tuning = read_tuning(out)
    if tuning is None:
        return
    with SummaryWriter(str(folder)) as writer:
        for name, picture in pictures(tuning).items():
            writer.add_figure(name, picture, close=False)
