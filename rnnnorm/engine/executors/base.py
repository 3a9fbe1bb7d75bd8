"""What all executors have in common: the interface, and the order that a worker process gets."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rnnnorm.engine.folder import Watch, lines_file
from rnnnorm.engine.progress import DistantDisplay
from rnnnorm.engine.threads import pinned
from rnnnorm.engine.work import Ended, Work, attempt


class Executor(Protocol):
    """Runs attempts somewhere; a future that raises has lost its worker."""

    @property
    def width(self) -> int | None:
        """How many attempts it takes at a time; None: any number."""

    @property
    def parallel(self) -> int | None:
        """How many are under way at the same time; None: nobody knows."""

    def submit(self, works: Sequence[tuple[Work, float | None]]) -> list[Future[Ended]]:
        """Start attempts, each with the seconds it may train."""

    def stop(self) -> None:
        """The user has asked to stop: workers know it, what has not begun need not begin."""

    def kill(self) -> None:
        """End all workers at once."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class Terms:
    """What all workers of a command are told.

    Args:
        threads: CPU threads of each.
        sign: the file that says that the command goes on.
        patience: see `folder.Watch`.
        steps: whether they are to say from time to time how far they are.
    """

    threads: int
    sign: Path
    patience: float | None = None
    steps: bool = False

    def order(self, work: Work, seconds: float | None) -> Order:
        """What a worker needs to attempt a trial: all of it is plain until the module path is known."""
        return Order(self, pickle.dumps(work), seconds, str(Path.cwd()), tuple(sys.path))


@dataclass(frozen=True)
class Order:
    """One attempt for a worker process; calling it does it.

    Args:
        terms: those of the command.
        work: the pickled trial.
        seconds: of training at most.
        cwd: folder that relative paths refer to.
        path: where modules are found, those of the user among them.
    """

    terms: Terms
    work: bytes
    seconds: float | None
    cwd: str
    path: tuple[str, ...]

    def __call__(self) -> Ended:
        """Attempt the trial in this process."""
        os.chdir(self.cwd)
        sys.path += [entry for entry in self.path if entry not in sys.path]
        work: Work = pickle.loads(self.work)
        interrupt = Watch(self.terms.sign, self.terms.patience)
        display = DistantDisplay(lines_file(self.terms.sign, work.folder), self.terms.steps)
        display.begin(work.name)
        with pinned(self.terms.threads):
            return attempt(work, interrupt, display, self.seconds)
