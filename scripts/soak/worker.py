"""A process that runs cases one after the other and tells the parent about each before and after."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import resource
import sys
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch

from soak.draw import Draw
from soak.kinds import Kind
from soak.verdict import BROKEN, FAILED, Verdict, error_of

MEMORY = 6 * 2**30
"""Bytes that a process may have beyond what it starts with: what asks for more is refused, as on a small machine."""


class Item(NamedTuple):
    """A case to be run.

    Args:
        number: of the case.
        kind: of it.
        alone: run only this side; all of them if empty.
    """

    number: int
    kind: str
    alone: str = ""


def work(connection: Connection, log: int, items: list[Item], seed: int, kinds: dict[str, Kind]) -> None:
    """Run cases.

    Args:
        connection: takes ("case", item, text), ("side", name) and ("done", item, verdict, seconds), at last ("end",).
        log: a file descriptor that gets what is printed during a case, and the stack where it ends the process.
        items: the cases.
        seed: of all of them.
        kinds: how they are made.
    """
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    faulthandler.enable(2)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    for item in items:
        os.ftruncate(log, 0)
        os.lseek(log, 0, os.SEEK_SET)
        began = time.monotonic()
        try:
            case = kinds[item.kind].draw(Draw(seed, item.kind, item.number))
        except Exception as error:
            verdict = Verdict(FAILED, BROKEN, f"{item.kind}: {error_of(error)}", str(error_of(error)))
            connection.send(("case", item, "(while the case was drawn)"))
        else:
            connection.send(("case", item, case.text))
            try:
                verdict = case.run(lambda side: connection.send(("side", side)), item.alone)
            except Exception as error:
                verdict = Verdict(FAILED, BROKEN, f"{item.kind}: {error_of(error)}", str(error_of(error)))
        connection.send(("done", item, verdict, time.monotonic() - began))
        _restore(item)
    gc.collect()
    connection.send(("end",))
    os._exit(0)


def _restore(item: Item) -> None:
    """What a case may have left behind in the process."""
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    if item.kind == "compiled":
        torch._dynamo.reset()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
