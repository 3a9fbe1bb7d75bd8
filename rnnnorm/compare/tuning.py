"""Tuning: the trials of a search by the engine, and what they leave: `tuning.json` and `tuning.csv`.

Every norm gets the same points, seeds and epochs. Trials are scored on the validation split alone; the final runs of
seed number s, counted from 0, have the values that round s mod R chose, so that their spread holds that of tuning, as
in the independent tuning studies of AlgoPerf (Dahl et al. 2023, arXiv 2306.07179).
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist
import yaml
from jsonargparse import Namespace
from rich.console import Console

from rnnnorm.common.folder_names import norm_folder
from rnnnorm.compare.comparison import Comparison
from rnnnorm.compare.halving import Key, Plan, Record, plan, rungs
from rnnnorm.compare.keys import read
from rnnnorm.compare.search import Point, Search
from rnnnorm.compare.tuned import FILES, write_tuning
from rnnnorm.engine.control import Interrupt
from rnnnorm.engine.progress import Display, count, duration
from rnnnorm.engine.records import leads
from rnnnorm.engine.run import TUNING, Run, TuningRun
from rnnnorm.engine.runner import Outcome, run
from rnnnorm.engine.trial import train
from rnnnorm.engine.work import Report, Work

STATUSES = ("paused", "finished", "diverged", "cut")
"""How a trial stands: `paused` at a rung, or ended as other runs do."""


@dataclass(frozen=True)
class Tuned:
    """What tuning came to.

    Args:
        outcome: of the last trials that were run; of none if all had been run before.
        values: (norm, round) → the chosen values, () where all trials diverged; None if tuning has not ended.
    """

    outcome: Outcome
    values: Mapping[tuple[str, int], tuple[tuple[str, Any], ...]] | None


def tune(comparison: Comparison, search: Search, threads: int, console: Console, end: float | None) -> Tuned:
    """Run the trials that are needed, those of all norms together, until each round has its choice.

    Args:
        comparison: with its norms.
        search: what is tuned.
        threads: CPU threads of each trial.
        console: where progress is shown.
        end: when the time for everything is up, by `time.monotonic()`; None: never.
    """
    last: list[tuple[Key, int]] = []
    while True:
        found, results = _shared(_next(comparison, search))
        needs = [(key, rung) for key, _, rung in found.needs]
        if not needs:
            break
        if needs == last:
            raise RuntimeError(f"{count(len(needs), 'trial')} were run and left no result, the first {needs[0][0]}")
        last = needs
        works = [_work(comparison, search, need, found.rungs[-1]) for need in found.needs]
        _say(console, comparison, found, results)
        minutes = None if end is None else (end - time.monotonic()) / 60
        outcome = run(works, comparison.out, comparison.options, threads, console, noun="tuning", minutes=minutes)
        if outcome.code or outcome.waiting or outcome.cut or outcome.disk_full:
            return Tuned(outcome, None)
    if leads():
        write_tuning(comparison.out, search, found, results)
        for folder in (comparison.out / TUNING).glob("*/round=*/trial=*"):
            _tidy(folder)
    values = {key: choice.point.values if choice.point else () for key, choice in found.choices.items()}
    return Tuned(Outcome(), values)


def tuned_runs(
    comparison: Comparison, runs: Sequence[Run], search: Search, tuned: Tuned, console: Console
) -> list[Run]:
    """The final runs at the values that were chosen for them; what was run at others is deleted.

    Args:
        comparison: with its seeds, and its configured values, which are taken where a whole round diverged.
        runs: all of them, at the configured values.
        search: what was tuned.
        tuned: the choices.
        console: told of each run that has to be done again.
    """
    found = []
    for one in runs:
        values = (tuned.values or {})[one.norm, comparison.seeds.index(one.seed) % search.rounds]
        found.append(replace(one, values=values))
        wanted = dict(values) or {dim.key: comparison.configured(dim.key) for dim in search.dimensions}
        if leads() and one.folder.exists() and not _ran_at(one, wanted):
            if one.result.is_file():
                console.print(f"{one.name}: tuned anew, so it is run again", highlight=False)
            shutil.rmtree(one.folder)
    return found


def _ran_at(one: Run, values: Mapping[str, Any]) -> bool:
    """Whether the configuration in a run's folder has these values."""
    try:
        config = yaml.safe_load((one.folder / "config.yaml").read_text(encoding="utf-8"))
        return all(read(_namespace(config), key) == value for key, value in values.items())
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
        return False


def _namespace(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    namespace: Any = Namespace
    return namespace(**{str(key): _namespace(value) for key, value in content.items()})


def _next(comparison: Comparison, search: Search) -> tuple[Plan, dict[Key, dict[str, Any]]]:
    """What is to be done next, from the trials on the disk."""
    results = read_trials(comparison.out, search)
    epochs, steps, limit = (comparison.configured(f"trainer.max_{what}") for what in ("epochs", "steps", "time"))
    if epochs is None:
        epochs = 1000 if steps == -1 and limit is None else -1  # as Lightning has it
    at = rungs(search, epochs, comparison.configured("trainer.check_val_every_n_epoch"))
    larger = any(result["metric_mode"] == "max" for result in results.values())
    records = {key: record(result) for key, result in results.items()}
    others = sorted({norm for norm, _, _ in records} - {*comparison.norms})
    return plan(search, comparison.norms, others, records, at, larger), results


def record(result: Mapping[str, Any]) -> Record:
    """What counts of a trial's `result.json`."""
    scores = tuple((int(epoch), float(score)) for epoch, score in result["scores"])
    ended = result["status"] in ("finished", "diverged")
    diverged = max(int(result["epochs"]), 1) if result["status"] == "diverged" else None
    return Record(int(result["epochs"]), scores, ended, diverged)


def read_trials(out: Path, search: Search) -> dict[Key, dict[str, Any]]:
    """The results of all trials of a search; what is broken, or was run with other values, counts as not run."""
    found = {}
    planned = [
        {point.name: dict(point.values) for point in search.points(r, search.widenings)} for r in range(search.rounds)
    ]
    for path in sorted((out / TUNING).glob("*/round=*/trial=*/result.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            key = (str(result["norm"]), int(path.parent.parent.name.removeprefix("round=")),
                   path.parent.name.removeprefix("trial="))  # fmt: skip
            record(result)
            own = norm_folder(key[0]) == path.parts[-4] and result["seed"] == search.seeds[key[1]]
            if own and result["status"] in STATUSES and result["values"] == planned[key[1]][key[2]]:
                found[key] = result
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            continue
    return found


def _work(comparison: Comparison, search: Search, need: tuple[Key, Point, int], last: int) -> Work:
    (norm, number, name), point, rung = need
    one = TuningRun(norm, search.seeds[number], comparison.out, point.values, number, name)
    return Work(one.name, one.folder, partial(trial, comparison, one, rung if rung < last else None))


def trial(
    comparison: Comparison,
    one: TuningRun,
    until: int | None,
    interrupt: Interrupt,
    display: Display,
    seconds: float | None,
) -> Report:
    """One trial, for the engine."""
    result = train(comparison, one, interrupt, display, seconds, until)
    values = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in one.values)
    ending = f"{count(result['steps'], 'step')} in {duration(result['seconds'])}"
    if result["status"] == "diverged":
        ending = f"diverged at step {result['diverged_at']}"
    best = result["best_val"]
    said = f"; validation {result['metric']} {best:.4g}" if best is not None else ""
    return Report(f"{values}: {ending}{said}", cut=result["status"] == "cut")


def _say(console: Console, comparison: Comparison, found: Plan, results: Mapping[Key, dict[str, Any]]) -> None:
    """What is about to be tried, in a line."""
    rung = Counter(rung for _, _, rung in found.needs).most_common(1)[0][0]
    to = f" to epoch {rung} of {found.rungs[-1]}" if len(found.rungs) > 1 else ""
    wider = {widening.label for widenings in found.widenings for widening in widenings}
    because = "" if not wider else f", the range being widened ({', '.join(sorted(wider))})"
    before = f"; {len(results)} done before" if results else ""
    console.print(
        f"tuning {count(len(comparison.norms), 'norm')}: {count(len(found.needs), 'trial')}{to}{because}{before}",
        highlight=False,
    )


def _tidy(folder: Path) -> None:
    """Delete checkpoints and curves of a trial: the scores are in its `result.json`."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    for events in folder.glob("events.out.tfevents.*"):
        events.unlink(missing_ok=True)
    for rest in ("hparams.yaml", "config.yaml"):
        (folder / rest).unlink(missing_ok=True)


def _shared(found: Any) -> Any:
    """What the first of the processes that train together has found."""
    shared = [found]
    if dist.is_available() and dist.is_initialized():
        dist.broadcast_object_list(shared)
    return shared[0]


def forget(out: Path) -> None:
    """Delete what tuning has left in a folder."""
    shutil.rmtree(out / TUNING, ignore_errors=True)
    for name in FILES:
        (out / name).unlink(missing_ok=True)
