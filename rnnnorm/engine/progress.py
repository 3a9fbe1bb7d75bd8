"""What the terminal shows while runs are running: two bars, or one line per run where there is no terminal."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as EtaColumn


def make_console() -> Console:
    """The terminal; a file or pipe, which has no width, gets room for a table."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


class Display:
    """Progress over runs and within a run.

    Args:
        console: where to.
        total: runs there are to do.
    """

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.total = console, total
        self._done, self._began = 0, time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            EtaColumn(),
        )
        self._bars = Progress(
            *columns, TextColumn("{task.fields[note]}"), console=console, disable=not console.is_terminal
        )
        self._runs = self._bars.add_task("runs", total=total, note="")
        self._steps: TaskID | None = None

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def begin(self, name: str) -> None:
        """A run starts."""
        if self._steps is not None:
            self._bars.remove_task(self._steps)
        self._steps = self._bars.add_task(name, total=None, note="")

    def step(self, done: int, total: float, note: str) -> None:
        """A run has gone on by a step."""
        if self._steps is not None:
            known = int(total) if math.isfinite(total) else None
            self._bars.update(self._steps, completed=done, total=known, note=note)

    def end(self, text: str) -> None:
        """A run has ended in some way; without a terminal the time left is part of the line."""
        self._done += 1
        self._bars.update(self._runs, completed=self._done)
        left = (time.monotonic() - self._began) / self._done * (self.total - self._done)
        eta = "" if self.console.is_terminal or self._done == self.total else f", about {duration(left)} left"
        self.say(f"[{self._done}/{self.total}] {text}{eta}".replace("[", r"\["))


class StepProgress(Callback):
    """Tells the display of every training step.

    Args:
        display: where to.
    """

    def __init__(self, display: Display) -> None:
        self.display = display

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """One step more."""
        total = (
            float(trainer.estimated_stepping_batches)
            if trainer.max_epochs != -1 or trainer.max_steps != -1
            else math.inf
        )
        notes = []
        for key in ("train/loss", f"val/{getattr(pl_module, 'metric', 'loss')}"):
            if key in trainer.callback_metrics:
                notes.append(f"{key} {float(trainer.callback_metrics[key]):.3g}")
        self.display.step(trainer.global_step, total, "  ".join(notes))


def duration(seconds: float) -> str:
    """A time as people say it: `40 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def count(number: int, noun: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
