"""Learning rates: every norm its own, tuned by validation on seeds of their own, then frozen in the study's file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import yaml
from rich.console import Console

from rnnnorm.engine.control import Interrupt
from rnnnorm.engine.options import Options
from rnnnorm.engine.progress import Display, count, say
from rnnnorm.engine.records import read_result, write
from rnnnorm.engine.runner import Outcome, run
from rnnnorm.engine.trial import train
from rnnnorm.engine.work import Report, Work
from rnnnorm.report.curves import read_curves
from rnnnorm.studies.framework.study import RATE, Study, trains_as
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.framework.work import comparison

SEEDS = (900, 901)
"""Seeds by which rates are tuned; no verdict rests on them."""
FACTORS = (1 / 16, 1 / 4, 1.0, 4.0, 16.0)
"""What the configured rate is multiplied by: eight octaves."""
FURTHER = 4.0
"""Factor beyond the ends, where the best rate is at one of them."""
WIDENINGS = 2
"""How many rates can be added so."""


@dataclass
class Group:
    """Trainings that share a learning rate.

    Args:
        study: whose.
        place: the conditions that they share, as the study names them.
        norm: as `trains_as` names it.
        trials: one per seed that stands for all of them.
        base: the rate of the study's file.
        factors: what it is multiplied by.
    """

    study: Study
    place: str
    norm: str
    base: float
    trials: list[Trial] = field(default_factory=list)
    factors: list[float] = field(default_factory=lambda: [*FACTORS])

    def at(self, factor: float) -> tuple[float, list[Trial]]:
        """A multiple of the base with four digits, and its trials, one per seed."""
        rate = float(f"{self.base * factor:.4g}")
        return rate, [replace(trial, conditions={**trial.conditions, RATE: rate}) for trial in self.trials]

    def losses(self, out: Path) -> dict[float, float]:
        """Mean validation loss by rate, in rising order; infinite where a training diverged, or has failed."""
        tried = (self.at(factor) for factor in sorted(self.factors))
        folder = out / self.study.name
        return {rate: sum(_validation(trial, folder) for trial in trials) / len(trials) for rate, trials in tried}

    def best(self, out: Path) -> float | None:
        """The rate with the least validation loss, the smallest of equals; None if all diverged."""
        losses = self.losses(out)
        rate = min(losses, key=lambda rate: losses[rate])
        return rate if math.isfinite(losses[rate]) else None

    def at_end(self, out: Path) -> bool:
        """Whether the best rate is the smallest or the largest that was tried."""
        rates = [*self.losses(out)]
        return self.best(out) in (rates[0], rates[-1])

    def widen(self, out: Path) -> bool:
        """Add a rate beyond the end at which the best one is; False if it is at none, or enough were added."""
        if not self.at_end(out) or len(self.factors) >= len(FACTORS) + WIDENINGS:
            return False
        low = self.best(out) == min(self.losses(out))
        self.factors.append(min(self.factors) / FURTHER if low else max(self.factors) * FURTHER)
        return True


def groups(study: Study) -> list[Group]:
    """What of a study has a learning rate of its own, in the order of its trials.

    Raises:
        ValueError: a configuration without a learning rate.
    """
    found: dict[tuple[str, str], Group] = {}
    for trial in study.trials():
        place, norm = study.place(trial), trains_as(trial.norm)
        if place is not None:
            group = found.setdefault((place, norm), Group(study, place, norm, _base(study, trial)))
            if not group.trials or (group.trials[0].arm, group.trials[0].norm) == (trial.arm, trial.norm):
                group.trials.append(trial)
    return [*found.values()]


def _base(study: Study, trial: Trial) -> float:
    config = study.settings.config if trial.config is None else trial.config
    keys = config.get("model", {}).get("init_args", {})
    if "learning_rate" not in keys:
        raise ValueError(f"study {study.name!r}: model.init_args.learning_rate is missing for {trial.name()}")
    return float(keys["learning_rate"])


def _validation(trial: Trial, out: Path) -> float:
    """Validation loss of a trial; infinite without measurements."""
    rows = trial.read(out) or [{"value": math.inf}]
    value = rows[0]["value"]
    return math.inf if value is None else float(value)


def works(found: Iterable[Group], out: Path) -> Iterator[Work]:
    """The trainings that are missing."""
    for group in found:
        folder = out / group.study.name
        for trial in (trial for factor in group.factors for trial in group.at(factor)[1]):
            if trial.read(folder) is None:
                name, do = f"{group.study.name}: {trial.name()}", partial(work, group.study, trial, folder)
                yield Work(name, trial.run(folder).folder, do, trial.weight, group.study.alone)


def work(
    study: Study,
    trial: Trial,
    out: Path,
    interrupt: Interrupt,
    display: Display | None = None,
    seconds: float | None = None,
) -> Report:
    """Train at a rate and keep the validation loss, the least of those along training; the test split is not touched.

    Args:
        study: whose trial it is.
        trial: with a rate among its conditions.
        out: the folder of the study.
        interrupt: whether the user wants to stop.
        display: where the steps of training are shown; nowhere if not given.
        seconds: when to stop training.

    Raises:
        InterruptedRunError: the user stopped it.
        ValueError: nothing was validated.
    """
    if trial.config is None:
        losses = [row["value"] for row in study.measure(trial, None) if row["quantity"] == "val_loss"]
    else:
        place = trial.run(out)
        result = read_result(place.result)
        if result is None:
            result = train(
                comparison(study, trial, out), place, interrupt, display or Display(Console(quiet=True)), seconds
            )
        losses = [*read_curves(place.folder)["val/loss"].value] if result["status"] == "finished" else [math.inf]
    finite = [float(loss) for loss in losses if math.isfinite(loss)]
    rows = [{"quantity": "val_loss", "value": min(finite) if finite else str(math.inf)}]
    write(trial.measured(out), json.dumps(rows) + "\n")
    return Report()


def frozen(found: Iterable[Group], out: Path) -> str:
    """The part of a settings file that holds the best rates: place → norm → rate; what always diverged is left out."""
    rates: dict[str, dict[str, float]] = {}
    for group in found:
        best = group.best(out)
        if best is not None:
            rates.setdefault(group.place, {})[group.norm] = best
    return yaml.safe_dump({"rates": rates}, sort_keys=False, width=120)


def tune(studies: Sequence[Study], out: Path, options: Options, command: str, console: Console) -> int:
    """Write the best rates of every study as a settings file; ranges with the best at an end are widened.

    Args:
        studies: with `SEEDS`, or what the user names instead.
        out: the folder with one folder per study.
        options: how trials are run.
        command: what goes on where it was interrupted.
        console: where to print.

    Returns:
        the exit code, as that of `rnnnorm study`.

    Raises:
        ValueError: nothing to tune.
    """
    found = {one.name: groups(one) for one in studies}
    every = [group for part in found.values() for group in part]
    if not every:
        raise ValueError(f"nothing to tune in {', '.join(found)}: rates are varied there, or nothing is trained")
    wide, total = every, Outcome()
    while wide and total.signal is None and not total.disk_full:
        total.add(run([*works(wide, out)], out, options, 1, console, noun="trials"))
        wide = [group for group in wide if group.widen(out)]
    for name, part in found.items():
        if part and total.signal is None:
            path = out / name / "rates.yaml"
            write(path, frozen(part, out))
            lost, ends = (
                sum(f(group) for group in part) for f in (lambda g: g.best(out) is None, lambda g: g.at_end(out))
            )
            text = f"{ends} at an end of what was tried, {lost} without one since all diverged"
            say(console, f"{name}: {count(len(part), 'rate')}, {text}: {path}")
    for failed in total.failed:
        say(console, f"failed:      {failed.name}, see {failed.error}")
    if total.signal is not None:
        say(console, f"interrupted; to go on: {command}")
    return total.code
