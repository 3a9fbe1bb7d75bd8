"""Work: one trial as the engine sees it, and one attempt at it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from rnnnorm.common.atomic import disk_is_full
from rnnnorm.engine.control import Interrupt, InterruptedRunError
from rnnnorm.engine.progress import Display
from rnnnorm.engine.quiet import quiet
from rnnnorm.engine.records import leads, write

DONE, CUT, FAILED, INTERRUPTED, WAITING = "done", "cut", "failed", "interrupted", "waiting"
"""How a trial ends: completed, out of time, by an exception, by the user, or not begun."""


class Report(NamedTuple):
    """What a trial that was completed tells.

    Args:
        text: a few words for the terminal.
        cut: whether it ran out of time.
    """

    text: str = ""
    cut: bool = False


Do = Callable[[Interrupt, Display, float | None], Report]
"""A trial's function: it stops on request, shows its progress, and trains for so many seconds at most (None: any)."""


@dataclass(frozen=True)
class Work:
    """One trial, a pure function of its configuration that leaves its results in a folder.

    Args:
        name: for the terminal.
        folder: its own; no other trial writes there.
        do: does it, going on from a checkpoint if there is one; picklable, so that another process can call it.
        weight: about how long it takes; only ratios matter, for the time left.
        alone: whether nothing may run beside it.
    """

    name: str
    folder: Path
    do: Do
    weight: float = 1.0
    alone: bool = False

    @property
    def error(self) -> Path:
        """Where the traceback is written if it fails."""
        return self.folder / "error.txt"


class Ended(NamedTuple):
    """How an attempt ended.

    Args:
        status: one of `DONE`, `CUT`, `FAILED`, `INTERRUPTED`, `WAITING`.
        text: what to tell of it.
        disk_full: whether it failed because there was no room left.
    """

    status: str
    text: str = ""
    disk_full: bool = False


def attempt(work: Work, interrupt: Interrupt, display: Display, seconds: float | None = None) -> Ended:
    """Try a trial; one that fails must not take the others with it.

    Event files of an attempt that left no checkpoint are deleted: this one begins anew and logs the same steps.
    """
    lock = FileLock(work.folder / ".lock")
    try:
        if interrupt.requested or not _acquire(lock, work, interrupt):
            return Ended(INTERRUPTED)
        if leads() and not (work.folder / "checkpoints" / "last.ckpt").is_file():
            for events in work.folder.glob("events.out.tfevents.*"):
                events.unlink()
        with quiet():
            report = work.do(interrupt, display, seconds)
    except (InterruptedRunError, KeyboardInterrupt):
        return Ended(INTERRUPTED)
    except (Exception, SystemExit) as error:  # a parser's answer to what it refuses is SystemExit
        with suppress(OSError):  # where there is no room for a result, there may be none for this either
            write(work.error, traceback.format_exc())
        reason = cause(error)
        return Ended(FAILED, f"{type(reason).__name__}: {first_line(reason)}", disk_is_full(error) is not None)
    finally:
        lock.release()
    if leads():
        work.error.unlink(missing_ok=True)
        Path(lock.lock_file).unlink(missing_ok=True)
    return Ended(CUT if report.cut else DONE, report.text)


def _acquire(lock: FileLock, work: Work, interrupt: Interrupt) -> bool:
    """Wait for a worker of an earlier command that has not noticed yet that nobody waits for it."""
    if not leads():
        return True
    work.folder.mkdir(parents=True, exist_ok=True)
    while not interrupt.requested:
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            continue
        return True
    return False


def cause(error: BaseException) -> BaseException:
    """The error of a constructor, which jsonargparse wraps into pages about union types."""
    while "Union subtypes" in str(error) and error.__cause__ is not None:
        error = error.__cause__
    return error


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or [""])[0]
