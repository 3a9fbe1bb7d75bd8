"""Interrupts while libraries are imported."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


def is_command() -> bool:
    """Whether this process is the command `rnnnorm`, or `python -m rnnnorm`, as opposed to somebody's own program."""
    return bool(sys.argv) and Path(sys.argv[0]).stem in ("rnnnorm", "-m")


@contextmanager
def interrupts_leave(applies: bool = True) -> Iterator[None]:
    """Block in which Ctrl-C ends the process with one line, since half-imported libraries raise anything.

    Args:
        applies: whether it shall; outside of the main thread, where Python delivers no signals, it never does.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(128 + number)

    if not applies or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
