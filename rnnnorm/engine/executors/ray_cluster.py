"""A Ray cluster: one on this machine, or one that is there; Ray finds the place for each attempt."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import ray

from rnnnorm.engine.executors.base import Order, Terms
from rnnnorm.engine.work import Ended, Work

api: Any = ray
"""Ray, whose functions are typed in part only."""

ATTEMPTS = 3
"""Starts of Ray before its failure is reported."""


def _start(options: dict[str, Any]) -> None:
    """Start Ray or join it; again if it was too slow, since its own limit of 30 s is short on a busy machine."""
    for left in reversed(range(ATTEMPTS)):
        try:
            api.init(**options)
            return
        except Exception as error:
            if not left or "timed out during startup" not in str(error):
                raise
            api.shutdown()


class RayCluster:
    """Gives all attempts to Ray, each with as many CPUs as it has threads.

    Machines see the output folder under the same path. Workers end with this process, since Ray ends those of a driver
    that is gone. An attempt that Ray has lost is not repeated by Ray, but by the engine, which counts.

    Args:
        address: of a cluster, `auto` or `HOST:PORT`; None: one is started on this machine, and ends with the command.
        jobs: how many attempts at the same time; None: as many as there are CPUs for.
        terms: what each worker is told.
    """

    def __init__(self, address: str | None, jobs: int | None, terms: Terms) -> None:
        self.width: int | None = jobs
        self.parallel: int | None = jobs
        self._address, self._terms = address, terms
        self._refs: dict[Future[Ended], Any] = {}
        self._begun = False

    def __enter__(self) -> Self:
        if not api.is_initialized():
            own: dict[str, Any] = {} if self._address else {"num_cpus": self._cpus(), "include_dashboard": False}
            os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own choice is 15: others would starve workers
            try:
                _start({"address": self._address, "logging_level": logging.ERROR, "log_to_driver": False, **own})
            except ConnectionError as error:
                raise ValueError(f"--ray-address {self._address}: no Ray cluster is there: {error}") from error
            self._begun = True
        if self.parallel is None:
            self.parallel = max(int(api.cluster_resources().get("CPU", 1)) // self._terms.threads, 1)
        self._call = api.remote(num_cpus=self._terms.threads, max_retries=0)(_call)
        return self

    def _cpus(self) -> int | None:
        return None if self.width is None else self.width * self._terms.threads

    def submit(self, works: Sequence[tuple[Work, float | None]]) -> list[Future[Ended]]:
        """Hand them to Ray."""
        # Not by callbacks of the futures: in Ray's thread, giving up a reference can wait for that thread itself.
        self._refs = {future: ref for future, ref in self._refs.items() if not future.done()}
        futures: list[Future[Ended]] = []
        for work, seconds in works:
            ref = self._call.remote(self._terms.order(work, seconds))
            futures.append(ref.future())
            self._refs[futures[-1]] = ref
        return futures

    def stop(self) -> None:
        """Nothing more to do: workers look at the sign, the first time before they begin."""

    def kill(self) -> None:
        """End all workers at once."""
        for ref in list(self._refs.values()):
            api.cancel(ref, force=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            self.kill()
        if self._begun:
            api.shutdown()


def _call(order: Order) -> Ended:
    return order()
