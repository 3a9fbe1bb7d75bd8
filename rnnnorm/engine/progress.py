"""Progress in the terminal: bars, or one line per trial where there is no terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


def make_console() -> Console:
    """The terminal; a file or pipe, which has no width, gets room for a table."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def say(console: Console, text: str) -> None:
    """Print a line as it is: paths and commands are neither coloured nor broken."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


QUIET = 30.0
"""Seconds after which a training that nobody sees as a bar prints a line."""


class LeftColumn(TimeRemainingColumn):
    """The time left: the display's own estimate where it has one, else that of the bar."""

    def render(self, task: Task) -> Text:
        """The text of one bar."""
        return Text(task.fields["left"]) if "left" in task.fields else super().render(task)


class Display:
    """Progress over trials, with the time left, and within the trial that runs in this process.

    Args:
        console: where to.
        weights: about how long each trial takes, in the same unit.
        noun: what the trials are called, in the plural.
    """

    def __init__(self, console: Console, weights: Sequence[float] = (), noun: str = "runs") -> None:
        self.console, self.total, self.done = console, len(weights), 0
        self._weight, self._spent, self._began = sum(weights), 0.0, time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            LeftColumn(),
        )
        self._bars = Progress(
            *columns, TextColumn("{task.fields[note]}"), console=console, disable=not console.is_terminal
        )
        self._all = self._bars.add_task(noun, total=self.total, note="", left="")
        self._steps: TaskID | None = None
        self._name, self._told = "", time.monotonic()

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        say(self.console, text)

    def begin(self, name: str) -> None:
        """A trial starts in this process."""
        if self._steps is not None:
            self._bars.remove_task(self._steps)
        self._steps = self._bars.add_task(name, total=None, note="")
        self._name, self._told = name, time.monotonic()

    def step(self, done: int, total: float, note: str) -> None:
        """A trial has gone on by a step; without a terminal that is a line every `QUIET` seconds."""
        if self._steps is not None:
            known = int(total) if math.isfinite(total) else None
            self._bars.update(self._steps, completed=done, total=known, note=note)
            if not self.console.is_terminal and time.monotonic() - self._told >= QUIET:
                self._told = time.monotonic()
                of = f" of {known}" if known else ""
                self.say(f"{self._name}: step {done}{of}{f', {note}' if note else ''}")

    def left(self) -> float:
        """Seconds that the rest will take, if it goes on as before."""
        elapsed = time.monotonic() - self._began
        return elapsed / self._spent * max(self._weight - self._spent, 0.0) if self._spent else 0.0

    def end(self, text: str, weight: float = 1.0, loud: bool = True) -> None:
        """A trial has ended; without a terminal every one is a line, in it only what the user must know."""
        self.done += 1
        self._spent += weight
        left = "" if self.done == self.total else f"about {duration(self.left())} left"
        self._bars.update(self._all, completed=self.done, left=left)
        if loud or not self.console.is_terminal:
            shown = f", {left}" if left and not self.console.is_terminal else ""
            self.say(f"[{self.done}/{self.total}] {text}{shown}")


class DistantDisplay(Display):
    """Progress of a trial in a worker, on another machine perhaps: lines in a file, which the command prints.

    Args:
        path: of the file.
        steps: whether the line every `QUIET` seconds is wanted.
    """

    def __init__(self, path: Path, steps: bool) -> None:
        super().__init__(Console(quiet=True, force_terminal=not steps))
        self.path = path

    def say(self, text: str) -> None:
        """Add lines to the file; on a full disk there is nothing to be read."""
        with suppress(OSError), self.path.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")


class DistantLines:
    """Lines of one `DistantDisplay`, each printed once and whole.

    Args:
        path: of the file.
        display: where they are printed.
    """

    def __init__(self, path: Path, display: Display) -> None:
        self.path, self.display, self._read = path, display, 0

    def show(self) -> None:
        """Print what is new; a line that is still being written waits."""
        with suppress(OSError), self.path.open("rb") as file:
            file.seek(self._read)
            content = file.read()
            content = content[: content.rfind(b"\n") + 1]
            self._read += len(content)
            for line in content.decode("utf-8", errors="replace").splitlines():
                self.display.say(line)

    def end(self) -> None:
        """Print the rest; the file goes."""
        self.show()
        with suppress(OSError):
            self.path.unlink()


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
