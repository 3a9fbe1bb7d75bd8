"""The parent of the workers: hands out cases, notices crashes and hangs, finds the case that is to blame."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import NamedTuple

from soak.deviations import reason_for
from soak.kinds import Kind
from soak.sides import REFERENCE, TORCH
from soak.verdict import ALLOWED, CRASH, FAILED, HANG, Verdict
from soak.worker import Item, work


class Outcome(NamedTuple):
    """What became of one case.

    Args:
        item: the case.
        text: what was done.
        verdict: what came of it.
        seconds: that it took.
        first: of a case that fails only after others, the number of the first of them.
    """

    item: Item
    text: str
    verdict: Verdict
    seconds: float
    first: int | None = None


@dataclass
class _Worker:
    process: ForkProcess
    connection: Connection
    log: int
    items: list[Item]
    suspect: Outcome | None
    done: int = 0
    text: str = ""
    side: str = ""
    since: float = field(default_factory=time.monotonic)
    ended: bool = False
    hangs: bool = False

    @property
    def item(self) -> Item:
        return self.items[min(self.done, len(self.items) - 1)]


class Watch:
    """Runs batches of cases, each in a process of its own that has done nothing before.

    A process is forked from this one, which has imported everything and run nothing. One that ends early has been ended
    by the case that it was at: that case is run again in a process of its own, to see whether it needs the others, and
    once more with the eager reference's classes and with torch's, to see whether they end likewise.

    Args:
        seed: of all cases.
        kinds: how they are made.
        jobs: processes at a time.
    """

    def __init__(self, seed: int, kinds: dict[str, Kind], jobs: int) -> None:
        self._seed, self._kinds, self._jobs = seed, kinds, jobs
        self._waiting: deque[tuple[list[Item], Outcome | None]] = deque()
        self._workers: list[_Worker] = []

    def run(self, batches: Sequence[list[Item]]) -> Iterator[Outcome]:
        """The outcomes of all cases, as they come."""
        self._waiting.extend((batch, None) for batch in batches)
        try:
            while self._waiting or self._workers:
                while self._waiting and len(self._workers) < self._jobs:
                    self._workers.append(self._start(*self._waiting.popleft()))
                for connection in wait([worker.connection for worker in self._workers], timeout=0.2):
                    worker = next(worker for worker in self._workers if worker.connection is connection)
                    yield from self._listen(worker)
                for worker in self._workers:
                    if not worker.hangs and time.monotonic() - worker.since > self._kinds[worker.item.kind].seconds:
                        worker.hangs = True
                        self._kill(worker)
                for worker in [worker for worker in self._workers if worker.ended]:
                    self._workers.remove(worker)
        finally:
            for worker in self._workers:
                self._kill(worker)

    def _start(self, items: list[Item], suspect: Outcome | None) -> _Worker:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe(duplex=False)
        log = os.memfd_create("soak")
        process = context.Process(target=work, args=(theirs, log, items, self._seed, self._kinds), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, log, items, suspect)

    def _listen(self, worker: _Worker) -> Iterator[Outcome]:
        try:
            while worker.connection.poll():
                kind, *content = worker.connection.recv()
                if kind == "case":
                    worker.text, worker.side, worker.since = content[1], "", time.monotonic()
                elif kind == "side":
                    worker.side = content[0]
                elif kind == "done":
                    worker.since = time.monotonic()
                    worker.done += 1
                    yield from self._done(worker, *content)
                else:
                    self._close(worker)
                    return
        except (EOFError, OSError):
            worker.process.join()
            yield from self._lost(worker)
            self._close(worker)

    def _done(self, worker: _Worker, item: Item, verdict: Verdict, seconds: float) -> Iterator[Outcome]:
        """One case has come to its end."""
        suspect = worker.suspect
        if suspect is None:
            yield Outcome(item, worker.text, verdict, seconds)
        elif item.alone == REFERENCE:
            self._try_alone(suspect, TORCH)
        else:  # by itself it does no harm: those before it have prepared it; or, at last, nobody else ends there
            yield suspect

    def _lost(self, worker: _Worker) -> Iterator[Outcome]:
        """A process has ended before its time."""
        item, suspect = worker.item, worker.suspect
        rest = worker.items[worker.done + 1 :]
        if rest:
            self._waiting.append((rest, None))
        if suspect is None:
            verdict, seconds = self._cause(worker), time.monotonic() - worker.since
            self._try_alone(Outcome(item, worker.text, verdict, seconds, worker.items[0].number), "")
        elif item.alone:
            detail = f"{suspect.verdict.detail}; {item.alone} ends likewise"
            reason = reason_for(CRASH, suspect.text, detail)
            verdict = Verdict(ALLOWED, CRASH, reason, detail) if reason else replace(suspect.verdict, detail=detail)
            yield suspect._replace(verdict=verdict)
        elif suspect.verdict.failure == CRASH:
            self._try_alone(suspect._replace(first=None), REFERENCE)
        else:
            yield suspect._replace(first=None)

    def _try_alone(self, suspect: Outcome, side: str) -> None:
        """Run a case that has ended a process in a new one, on one side only or, if that is "", on all of them."""
        self._waiting.appendleft(([suspect.item._replace(alone=side)], suspect))

    def _cause(self, worker: _Worker) -> Verdict:
        log = os.pread(worker.log, 1 << 20, 0).decode("utf-8", "replace")
        own = re.findall(r'File "[^"]*/rnnnorm/([^"]+)", line \d+ in (\w+)', log)
        frames = own or re.findall(r'File "([^"]+)", line \d+ in (\w+)', log)
        where = f"{frames[0][0]}:{frames[0][1]}" if frames else "nowhere"
        code = worker.process.exitcode or 0
        if worker.hangs:
            how, failure = f"no end after {self._kinds[worker.item.kind].seconds:g} s", HANG
        else:
            how, failure = (signal.Signals(-code).name if code < 0 else f"exit code {code}"), CRASH
        side = worker.side or "while the case was drawn"
        tail = log.strip().splitlines()[:1]
        return Verdict(FAILED, failure, f"{how} in {where}", f"{how} in {where}, side {side} {' '.join(tail)[:200]}")

    def _kill(self, worker: _Worker) -> None:
        """End a process, which first writes down where it is."""
        for number in (signal.SIGABRT, signal.SIGKILL):
            if worker.process.is_alive() and worker.process.pid is not None:
                os.kill(worker.process.pid, number)
                worker.process.join(2)

    def _close(self, worker: _Worker) -> None:
        worker.ended = True
        worker.process.join(5)
        self._kill(worker)
        worker.connection.close()
        os.close(worker.log)
