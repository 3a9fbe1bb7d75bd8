"""Trials that train nothing, in a file of their own because worker processes have to import it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from rich.console import Console

from rnnnorm.engine import progress
from rnnnorm.engine.control import Interrupt
from rnnnorm.engine.options import Options
from rnnnorm.engine.progress import Display
from rnnnorm.engine.records import write_json
from rnnnorm.engine.runner import Outcome, run
from rnnnorm.engine.work import Report, Work

STEPS = 20


def count_up(
    folder: Path, seed: int, pause: float, deaths: int, interrupt: Interrupt, display: Display, seconds: float | None
) -> Report:
    """A number made step by step, with a checkpoint after each; dies in the middle of step 5 for the first times.

    It goes on as long as there is no file `wait` beside its folder.
    """
    state = {"step": 0, "value": seed}
    if (folder / "state.json").is_file():
        state = json.loads((folder / "state.json").read_text())
    with (folder / "attempts").open("a") as attempts:
        attempts.write(f"{os.getpid()}\n")
    while state["step"] < STEPS:
        interrupt.check()
        if state["step"] == 5 and len((folder / "attempts").read_text().split()) <= deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        while (folder.parent / "wait").exists():
            time.sleep(0.05)
        time.sleep(pause)
        state = {"step": state["step"] + 1, "value": (state["value"] * 31 + state["step"]) % 1_000_003}
        write_json(folder / "state.json", state)
    write_json(folder / "result.json", {"value": state["value"]})
    return Report(f"value {state['value']}")


def talk(name: str, interrupt: Interrupt, display: Display, seconds: float | None) -> Report:
    """A trial that takes long, for an impatient user, and says something between its steps."""
    progress.QUIET = 0.0
    for step in range(1, STEPS + 1):
        display.step(step, STEPS, "train/loss 0.5")
        if step == 7:
            display.say(f"{name}: by the way")
    return Report("talked")


def fail(interrupt: Interrupt, display: Display, seconds: float | None) -> Report:
    """A trial with a mistake in it."""
    raise ZeroDivisionError("a mistake")


def work(out: Path, seed: int, pause: float = 0.0, deaths: int = 0, alone: bool = False) -> Work:
    """A trial, its folder being there."""
    folder = out / f"seed={seed}"
    folder.mkdir(parents=True, exist_ok=True)
    return Work(f"trial {seed}", folder, partial(count_up, folder, seed, pause, deaths), alone=alone)


def value(out: Path, seed: int) -> int:
    """What a trial found."""
    return int(json.loads((out / f"seed={seed}" / "result.json").read_text())["value"])


def expected(seed: int) -> int:
    """What an undisturbed trial finds."""
    found = seed
    for step in range(STEPS):
        found = (found * 31 + step) % 1_000_003
    return found


def attempts(out: Path, seed: int) -> int:
    """How often it was begun."""
    return len((out / f"seed={seed}" / "attempts").read_text().split())


def go(works: list[Work], out: Path, options: Options, console: Console | None = None) -> Outcome:
    """Run them."""
    return run(works, out, options.resolved(1), 1, console or Console(quiet=True))


if __name__ == "__main__":  # a command to be killed: trials.py OUT JOBS
    place = Path(sys.argv[1])
    go([work(place, seed, pause=0.2) for seed in range(3)], place, Options(jobs=int(sys.argv[2])))
