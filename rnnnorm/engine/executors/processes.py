"""Worker processes of this machine, each a process pool of one: a worker that is killed breaks no neighbour."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from types import TracebackType
from typing import Self

import torch

from rnnnorm.engine.executors.base import Order, Terms
from rnnnorm.engine.executors.server import SIGNALS, context, deaf
from rnnnorm.engine.work import Ended, Work


class Processes:
    """Keeps `width` attempts under way.

    Args:
        width: number of worker processes.
        terms: what each is told.
        modules: what all trials need to have imported.
    """

    def __init__(self, width: int, terms: Terms, modules: Iterable[str] = ()) -> None:
        self.width = self.parallel = width
        self._context = context([__name__, *modules])
        self._terms = terms
        self._pools: list[ProcessPoolExecutor | None] = [None] * width
        self._under_way: list[Future[Ended] | None] = [None] * width

    def submit(self, works: Sequence[tuple[Work, float | None]]) -> list[Future[Ended]]:
        """Give each to a worker that is free; there must be one."""
        return [self._submit(self._terms.order(work, seconds)) for work, seconds in works]

    def _submit(self, order: Order) -> Future[Ended]:
        place = next(i for i, future in enumerate(self._under_way) if future is None or future.done())
        try:
            future = self._start(place, order)
        except BrokenExecutor:  # the worker was killed, in its last attempt or since
            self._pools[place] = None
            future = self._start(place, order)
        self._under_way[place] = future
        return future

    def _start(self, place: int, order: Order) -> Future[Ended]:
        pool = self._pools[place]
        if pool is None:  # made before signals are blocked: making one lets them through again
            pool = self._pools[place] = ProcessPoolExecutor(1, self._context, _start_worker, (place,))
        with deaf():
            return pool.submit(order)

    def stop(self) -> None:
        """Nothing more to do: workers look at the sign."""

    def kill(self) -> None:
        """End all workers at once."""
        for pool in self._pools:
            for process in list(((pool and pool._processes) or {}).values()):
                process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            self.kill()
        for pool in self._pools:
            if pool is not None:
                pool.shutdown(cancel_futures=True)


def _start_worker(place: int) -> None:
    threading.Thread(target=_follow_parent, daemon=True).start()
    for number in SIGNALS:  # signals reach the whole group: the parent decides
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if (devices := torch.cuda.device_count()) > 1 and "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(place % devices)


def _follow_parent() -> None:
    """End with the parent, however it ends: nobody would take the results, nor stop what is running."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
