"""What the terminal shows while trials are running: a bar, or one line per trial where there is no terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rnnnorm.engine.progress import duration


class StudyDisplay:
    """Progress over trials, with the time left.

    Args:
        console: where to.
        weights: about how long each trial takes, in the same unit.
    """

    def __init__(self, console: Console, weights: list[float]) -> None:
        self.console = console
        self.total, self._weight = len(weights), sum(weights)
        self.done = 0
        self._spent, self._began = 0.0, time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Progress(
            *columns, TextColumn("{task.fields[left]}"), console=console, disable=not console.is_terminal
        )
        self._bar = self._bars.add_task("trials", total=len(weights), left="")

    def __enter__(self) -> StudyDisplay:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def left(self) -> float:
        """Seconds that the rest will take, if it goes on as before."""
        elapsed = time.monotonic() - self._began
        return elapsed / self._spent * max(self._weight - self._spent, 0.0) if self._spent else 0.0

    def end(self, text: str, weight: float, loud: bool = False) -> None:
        """A trial has ended; without a terminal every one is a line, in it only what the user must know."""
        self.done += 1
        self._spent += weight
        left = "" if self.done == self.total else f"about {duration(self.left())} left"
        self._bars.update(self._bar, completed=self.done, left=left)
        if loud or not self.console.is_terminal:
            self.say(f"[{self.done}/{self.total}] {text}" + (f", {left}" if left else ""))
