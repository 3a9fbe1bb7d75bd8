"""In this process, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from rnnnorm.engine.control import Interrupt
from rnnnorm.engine.progress import Display
from rnnnorm.engine.threads import pinned
from rnnnorm.engine.work import Ended, Work, attempt


class Local:
    """Does each attempt when it is submitted, showing its steps.

    Args:
        threads: CPU threads.
        interrupt: whether the user wants to stop.
        display: where progress is shown.
    """

    width = parallel = 1

    def __init__(self, threads: int, interrupt: Interrupt, display: Display) -> None:
        self.threads, self.interrupt, self.display = threads, interrupt, display

    def submit(self, works: Sequence[tuple[Work, float | None]]) -> list[Future[Ended]]:
        """Do them."""
        futures = []
        for work, seconds in works:
            self.display.begin(work.name)
            future: Future[Ended] = Future()
            with pinned(self.threads):
                future.set_result(attempt(work, self.interrupt, self.display, seconds))
            futures.append(future)
        return futures

    def stop(self) -> None:
        """Nothing more to do: the attempt asks `interrupt` itself."""

    def kill(self) -> None:
        """Nothing to end: the KeyboardInterrupt that follows ends the attempt."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None: ...
