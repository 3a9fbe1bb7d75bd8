"""Many trials on several cores: each worker process computes with one thread, and all stop together."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from rnnnorm.compare.configuration import cause
from rnnnorm.engine.control import Interrupt, InterruptedRunError
from rnnnorm.engine.records import write
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trial import Trial

DONE, FAILED, INTERRUPTED = "done", "failed", "interrupted"


@dataclass(frozen=True)
class Task:
    """A trial and where it belongs."""

    study: Study
    trial: Trial
    out: Path

    @property
    def error(self) -> Path:
        """Where the traceback is written if it fails."""
        return self.trial.run(self.out).error


@dataclass(frozen=True)
class Ended:
    """How a trial ended."""

    task: Task
    status: str
    message: str = ""


class SharedInterrupt(Interrupt):
    """A request to stop that all processes see.

    Args:
        flag: a byte in shared memory, 1 when the user asks. It has no lock: the signal handler sets it between any two
            instructions, and a process that is killed must not keep the others waiting.
    """

    def __init__(self, flag: Any) -> None:
        self._flag = flag
        self._notify = lambda: None
        self._before = None

    @property
    def requested(self) -> bool:
        """Whether the user has asked to stop."""
        return bool(self._flag.value)

    @requested.setter
    def requested(self, value: bool) -> None:
        self._flag.value = int(value)


_interrupt: Interrupt | None = None  # of a worker process


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes that begin here do not hear Ctrl-C before they can say so themselves; this one hears it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(flag: Any) -> None:
    global _interrupt
    threading.Thread(target=_follow_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    torch.set_num_threads(1)
    _interrupt = SharedInterrupt(flag)


def _follow_parent() -> None:
    """End with the parent, however it ends: nobody would take the results, nor stop what is running."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _in_worker(task: Task) -> Ended:
    assert _interrupt is not None
    return attempt(task, _interrupt)


def attempt(task: Task, interrupt: Interrupt) -> Ended:
    """Do one trial; one that fails must not take the others with it."""
    from rnnnorm.studies.framework.work import work

    if interrupt.requested:
        return Ended(task, INTERRUPTED)
    try:
        work(task.study, task.trial, task.out, interrupt)
    except (InterruptedRunError, KeyboardInterrupt):
        return Ended(task, INTERRUPTED)
    except (Exception, SystemExit) as error:  # a parser's answer to what it refuses is SystemExit
        write(task.error, traceback.format_exc())
        reason = cause(error)
        first = (str(reason).strip().splitlines() or [""])[0]
        return Ended(task, FAILED, f"{type(reason).__name__}: {first}")
    task.error.unlink(missing_ok=True)
    return Ended(task, DONE)


class Pool:
    """Runs trials, on several cores or in this process, until they are done or the user stops them.

    Args:
        jobs: worker processes; 1: this process.
        stopping: called once, at the first Ctrl-C.
    """

    def __init__(self, jobs: int, stopping: Any) -> None:
        self.jobs = jobs
        self._context = multiprocessing.get_context("spawn")
        self._flag = RawValue("b", 0)
        self._interrupt = SharedInterrupt(self._flag)
        self._stopping = stopping
        self._executor: ProcessPoolExecutor | None = None
        self._before: Any = None

    @property
    def interrupted(self) -> bool:
        """Whether the user has asked to stop."""
        return self._interrupt.requested

    def __enter__(self) -> Pool:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._interrupt.requested:
            self._kill()
            raise KeyboardInterrupt
        self._interrupt.requested = True
        self._stopping()

    def _kill(self) -> None:
        for process in list((self._executor._processes if self._executor else {}).values()):
            process.terminate()

    def _workers(self) -> ProcessPoolExecutor:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(self.jobs, self._context, _start_worker, (self._flag,))
        return self._executor

    def run(self, tasks: Sequence[Task], alone: bool = False) -> Iterator[Ended]:
        """Do the tasks and hand each out as it ends; interrupted ones end as such.

        Args:
            tasks: what to do.
            alone: one after the other, in this process, with nothing beside.
        """
        if alone or self.jobs == 1 or len(tasks) <= 1:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                for task in tasks:
                    yield attempt(task, self._interrupt)
            finally:
                torch.set_num_threads(threads)
            return
        todo = list(reversed(tasks))
        running: dict[Future[Ended], Task] = {}
        while todo or running:
            # Only as many as there are workers: what is not submitted need not be cancelled.
            while todo and len(running) < self.jobs and not self.interrupted:
                try:
                    workers = self._workers()  # not below: making one lets Ctrl-C through again
                    with _deaf_to_interrupts():
                        future = workers.submit(_in_worker, todo[-1])
                    running[future] = todo[-1]
                except BrokenExecutor:  # a worker was killed while nobody was waiting for it
                    self._executor = None
                    break
                todo.pop()
            if self.interrupted and todo:
                yield from (Ended(task, INTERRUPTED) for task in reversed(todo))
                todo.clear()
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                task = running.pop(future)
                error = future.exception()
                if error is None:
                    yield future.result()
                    continue
                write(task.error, "".join(traceback.format_exception(error)))
                yield Ended(task, FAILED, f"{type(error).__name__}: {error}")
                if isinstance(error, BrokenExecutor):  # a worker was killed: the next trials get new ones
                    self._executor = None


def default_jobs() -> int:
    """As many as there are cores for this process, at most 16."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, 16)
