"""Output folder: one command at a time, and a sign by which its workers, wherever they are, know that it goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rnnnorm.engine.control import Interrupt
from rnnnorm.engine.records import leads, write_json

OWN = ".engine"
"""Folder, in an output folder, of what the engine needs for itself."""


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """A block that has an output folder to itself; the lock of a process that died is none.

    Of several processes that train together only the first one takes the lock.

    Raises:
        ValueError: another command runs in the folder; the message names its process and host. Or it is a file.
    """
    if not leads():
        yield
        return
    own = out / OWN
    try:
        own.mkdir(parents=True, exist_ok=True)
    except (NotADirectoryError, FileExistsError):
        raise ValueError(f"--out {out} is a file or lies in one; expected a folder, new or existing") from None
    holder = own / "driver.json"
    lock = FileLock(own / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"{out} is in use by {_describe(holder)}; wait for it, or choose another folder with --out"
        ) from None
    try:
        for sign in own.glob("running-*"):  # of a command that was killed: its workers, if any are left, stop
            sign.unlink(missing_ok=True)
        with suppress(OSError):  # on a full disk the lock holds, too, and what there is can still be shown
            write_json(holder, {"pid": os.getpid(), "host": socket.gethostname()})
        yield
        holder.unlink(missing_ok=True)
    except BaseException:
        if [*out.iterdir()] == [own]:  # refused before anything was written
            shutil.rmtree(out, ignore_errors=True)
        raise
    finally:
        lock.release()


def _describe(holder: Path) -> str:
    try:
        content = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {content['pid']} on {content['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


class Sign:
    """A file that is there as long as workers shall go on.

    Args:
        out: the output folder, which all workers see.
    """

    def __init__(self, out: Path) -> None:
        self.path = (out / OWN).absolute() / f"running-{uuid.uuid4().hex}"
        self._renewed = 0.0

    def __enter__(self) -> Sign:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()
        for lines in self.path.parent.glob(f"{self.path.name}-*"):
            lines.unlink(missing_ok=True)

    def remove(self) -> None:
        """Ask all workers to stop; may be called by a signal handler."""
        self.path.unlink(missing_ok=True)

    def renew(self) -> None:
        """Show that the command still lives, every 15 seconds."""
        if time.monotonic() - self._renewed > 15:
            self._renewed = time.monotonic()
            with suppress(FileNotFoundError):  # removed, perhaps by a signal handler just now
                os.utime(self.path)


def lines_file(sign: Path, folder: Path) -> Path:
    """The file, beside the sign, of the lines that the worker of a trial wants to be printed.

    Args:
        sign: its path.
        folder: of the trial.
    """
    return sign.with_name(f"{sign.name}-{hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]}")


class Watch(Interrupt):
    """A worker's request to stop: the sign is gone, or nobody renews it.

    Args:
        path: of the sign.
        patience: seconds without renewal after which the command must be dead; None: its end is noticed otherwise.
    """

    def __init__(self, path: Path, patience: float | None = None) -> None:
        self._path, self._patience = path, patience
        self._gone = False
        self._renewal: float | None = None
        self._seen = self._looked = -1.0

    @property
    def requested(self) -> bool:
        """Whether to stop; looks at most twice a second."""
        now = time.monotonic()
        if not self._gone and now - self._looked > 0.5:
            self._looked = now
            try:
                renewal = self._path.stat().st_mtime
            except OSError:
                self._gone = True
                return True
            if renewal != self._renewal:
                self._renewal, self._seen = renewal, now
            self._gone = self._patience is not None and now - self._seen > self._patience
        return self._gone

    @requested.setter
    def requested(self, value: bool) -> None:
        self._gone = value
