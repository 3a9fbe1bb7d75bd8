"""Server that worker processes are forked from: it has imported everything once."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext

SIGNALS = {signal.SIGINT, signal.SIGTERM}


def begin(module: str) -> None:
    """Start of the server before it is needed: it imports while this process still reads its configuration.

    Args:
        module: of the trials that workers will do.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        context(["rnnnorm.engine.executors.processes", module])
        with deaf():
            multiprocessing.forkserver.ensure_running()


def context(modules: Iterable[str]) -> BaseContext:
    """Workers are forked from a server that has imported everything once; where there is none, each begins anew."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([*modules])
    return found


@contextmanager
def deaf() -> Iterator[None]:
    """Processes that begin here hear no signal before they can say that they want none; this one hears it after."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
