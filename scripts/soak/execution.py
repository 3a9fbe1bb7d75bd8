"""Execution of a case's program on one side, here or in a process of its own."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import Pipe
from types import CodeType
from typing import Any

import torch

from soak.sides import WIDE, Recorder, namespace
from soak.verdict import PROGRAM, Error, error_of

SECONDS = 10


@dataclass(frozen=True)
class Result:
    """What a program has left: what it recorded, and the error that ended it."""

    recorded: dict[str, Any]
    error: Error | None


@lru_cache(8)
def _compiled(text: str) -> CodeType:
    return compile(text, PROGRAM, "exec")


def execute(text: str, side: str, seed: int) -> Result:
    """Run a program with the names of one side."""
    recorder = Recorder(seed, wide=side == WIDE)
    names = namespace(side, recorder)
    torch.manual_seed(seed)
    try:
        exec(_compiled(text), names)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Result(recorder.found, error_of(error))
    return Result(recorder.found, None)


class _Apart:
    """A forked process that runs programs, one after the other, until one of them ends it."""

    def __init__(self) -> None:
        self._ours, theirs = Pipe()
        self._process = os.fork()
        if self._process == 0:
            self._ours.close()
            with contextlib.suppress(BaseException):
                while True:
                    text, side, seed = theirs.recv()
                    theirs.send_bytes(pickle.dumps(execute(text, side, seed)))
            os._exit(0)
        theirs.close()

    def ask(self, text: str, side: str, seed: int) -> Result | None:
        """What a program leaves there; None if it ended the process, or took too long, and so did its process."""
        try:
            self._ours.send((text, side, seed))
            if self._ours.poll(SECONDS):
                result: Result = pickle.loads(self._ours.recv_bytes())
                return result
        except (EOFError, OSError):
            pass
        self.close()
        return None

    def close(self) -> None:
        """End the process."""
        self._ours.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)


_apart: _Apart | None = None


def execute_apart(text: str, side: str, seed: int, fresh: bool = False) -> Result | None:
    """The same in another process, whose end is nobody's harm; None if it did not come to its own end.

    Args:
        text: the program.
        side: whose names it uses.
        seed: of random numbers.
        fresh: in a process that has run nothing else.
    """
    global _apart
    if _apart is not None and fresh:
        _apart.close()
        _apart = None
    _apart = _apart or _Apart()
    result = _apart.ask(text, side, seed)
    if result is None:
        _apart = None
    return result
