"""All trials: as many at a time as the executor takes, within the time, lost ones again, until the user stops them."""

from __future__ import annotations

import math
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch.distributed as dist
from rich.console import Console

from rnnnorm.engine.control import Interrupt
from rnnnorm.engine.executors.base import Executor
from rnnnorm.engine.executors.local import Local
from rnnnorm.engine.folder import Sign, lines_file
from rnnnorm.engine.options import Options
from rnnnorm.engine.progress import Display, DistantLines, count
from rnnnorm.engine.records import write
from rnnnorm.engine.work import CUT, DONE, FAILED, INTERRUPTED, WAITING, Ended, Work, first_line

RETRIES = 2
"""How often a trial is tried again whose worker was lost: killed, out of memory, its machine gone."""
STOPPING = "stopping after this step (Ctrl-C again: at once) …"


@dataclass
class Outcome:
    """What became of the trials."""

    done: int = 0
    cut: list[Work] = field(default_factory=list)
    failed: list[Work] = field(default_factory=list)
    waiting: list[Work] = field(default_factory=list)
    signal: int | None = None
    """The signal by which the user stopped them."""
    disk_full: bool = False
    """Whether no further trial was begun because there was no room left."""

    @property
    def total(self) -> int:
        """How many trials there were."""
        return self.done + len(self.failed) + len(self.waiting)

    @property
    def code(self) -> int:
        """The exit code: 0, or 1 if a trial failed, 130 or 143 if the user interrupted by SIGINT or SIGTERM."""
        return 128 + self.signal if self.signal is not None else int(bool(self.failed))

    def add(self, other: Outcome) -> None:
        """Count what became of further trials; those that wait now are the ones that wait."""
        self.done += other.done
        self.cut += other.cut
        self.failed += other.failed
        self.waiting, self.signal, self.disk_full = other.waiting, other.signal, other.disk_full


def run(
    works: Sequence[Work],
    out: Path,
    options: Options,
    threads: int,
    console: Console,
    *,
    noun: str = "runs",
    minutes: float | None = None,
    ended: Callable[[Work, Display], None] = lambda work, display: None,
) -> Outcome:
    """Run trials, those that must be alone after the others and in this process.

    Args:
        works: what to do, in this order.
        out: the output folder, seen by all workers.
        options: which executor, and how many trials at the same time.
        threads: CPU threads of each trial.
        console: where progress is shown.
        noun: what the trials are called.
        minutes: time for all of them together; None: any.
        ended: called with each trial that has ended, in whatever way.

    Returns:
        what became of them.
    """
    outcome = Outcome()
    together = [work for work in works if not work.alone]
    alone = [work for work in works if work.alone]
    executor: Executor | None = None

    def stop() -> None:
        sign.remove()
        if executor is not None:
            executor.stop()
        display.say(STOPPING)

    def kill() -> None:
        if executor is not None:
            executor.kill()

    with Display(console, [work.weight for work in works], noun) as display, Sign(out) as sign:
        interrupt = Interrupt(stop, kill)
        budget = Budget(minutes)
        for group, chosen in ((together, options), (alone, Options(1, "local"))):
            if not group:
                continue
            local = Local(threads, interrupt, display)
            with chosen.start(local, sign, out, group) as executor, interrupt:
                for work, end in _attempts(group, executor, interrupt, sign, budget, display):
                    _note(outcome, display, work, end)
                    ended(work, display)
        if interrupt.requested:
            outcome.signal = interrupt.signal or signal.SIGINT
    return outcome


def _attempts(
    works: Sequence[Work], executor: Executor, interrupt: Interrupt, sign: Sign, budget: Budget, display: Display
) -> Iterator[tuple[Work, Ended]]:
    """Every trial with the way it ended."""
    todo, running = deque(works), dict[Future[Ended], Work]()
    lines = {work.folder: DistantLines(lines_file(sign.path, work.folder), display) for work in works}
    lost: Counter[Path] = Counter()
    disk_full = False
    while todo or running:
        room = len(todo) if executor.width is None else min(executor.width - len(running), len(todo))
        if room:
            requested, seconds = _of_the_first((interrupt.requested, budget.share(len(todo), executor.parallel)))
            if requested or disk_full or (seconds is not None and seconds <= 0):
                yield from ((work, Ended(INTERRUPTED if requested else WAITING)) for work in todo)
                todo.clear()
            else:
                started = [todo.popleft() for _ in range(room)]
                futures = executor.submit([(work, seconds) for work in started])
                running |= dict(zip(futures, started, strict=True))
        sign.renew()
        try:
            ended, _ = wait(running, timeout=5.0, return_when=FIRST_COMPLETED)
        except KeyboardInterrupt:  # the second signal
            yield from ((work, Ended(INTERRUPTED)) for work in (*running.values(), *todo))
            return
        for work in running.values():
            lines[work.folder].show()
        for future in ended:
            work, error = running.pop(future), future.exception()
            end = future.result() if error is None else Ended(INTERRUPTED)
            if error is not None and not interrupt.requested:
                lost[work.folder] += 1
                reason = f"its worker was lost, {type(error).__name__}: {first_line(error)}"
                if lost[work.folder] <= RETRIES:
                    display.say(f"{work.name}: {reason}; trying again")
                    todo.appendleft(work)
                    continue
                with suppress(OSError):
                    write(work.error, "".join(traceback.format_exception(error)))
                end = Ended(FAILED, f"{reason} ({count(RETRIES + 1, 'attempt')})")
            elif end.status == INTERRUPTED:
                interrupt.requested = True  # by a KeyboardInterrupt of its own, perhaps
            disk_full |= end.disk_full
            lines[work.folder].end()
            yield work, end


def _note(outcome: Outcome, display: Display, work: Work, end: Ended) -> None:
    if end.status in (DONE, CUT):
        outcome.done += 1
        if end.status == CUT:
            outcome.cut.append(work)
        display.end(f"{work.name}: {end.text}" if end.text else work.name, work.weight, loud=bool(end.text))
    elif end.status == FAILED:
        outcome.failed.append(work)
        outcome.disk_full |= end.disk_full
        display.end(f"{work.name}: failed, {end.text}", work.weight)
    else:
        outcome.waiting.append(work)


def _of_the_first(decision: tuple[bool, float | None]) -> tuple[bool, float | None]:
    """The decision of the first process, whose clock and keyboard count for all that train together."""
    shared = [decision]
    if dist.is_available() and dist.is_initialized():
        dist.broadcast_object_list(shared)
    return shared[0]


class Budget:
    """Shares the time that is left among the trials that are left.

    Args:
        minutes: for everything; None: no limit.
    """

    def __init__(self, minutes: float | None) -> None:
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    def share(self, trials: int, parallel: int | None) -> float | None:
        """Seconds for each of the next trials, its evaluation included.

        Args:
            trials: not begun yet.
            parallel: how many run at the same time; None: all.
        """
        if self._end is None:
            return None
        return (self._end - time.monotonic()) / math.ceil(trials / (parallel or trials))
