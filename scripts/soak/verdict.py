"""What became of a case."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from pathlib import Path

ACCEPTED, REFUSED, STRICTER, ALLOWED, FAILED = "accepted", "refused", "stricter", "allowed", "failed"
"""Both accept; both refuse; torch accepts and we refuse; a known deviation; what must not be."""

CRASH, HANG, SILENT, WRONG, KIND, UNNAMED, BROKEN = (
    "crash",
    "hang",
    "silent acceptance",
    "wrong numbers",
    "wrong kind of error",
    "error that names nothing",
    "soak itself is broken",
)
"""Kinds of failures, worst first."""


@dataclass(frozen=True)
class Verdict:
    """What became of a case.

    Args:
        label: one of `ACCEPTED` … `FAILED`.
        failure: of a failure, its kind.
        group: what it has in common with others of the same cause.
        detail: what happened, in words.
    """

    label: str
    failure: str = ""
    group: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Error:
    """An exception.

    Args:
        kind: its class.
        message: its text.
        where: the innermost frame of the package, or else of anybody.
        proper: whether users can expect one of its class for what they did wrong, or it is none of ours.
        line: of the case's program, from 0.
    """

    kind: str
    message: str
    where: str
    proper: bool
    line: int = 0

    def __str__(self) -> str:
        return f"{self.kind}: {self.message.strip()[:300]} ({self.where})"


PROPER = (ValueError, TypeError, RuntimeError)
PROGRAM = "<case>"


def error_of(error: BaseException) -> Error:
    """What is worth knowing of an exception."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/rnnnorm/" in frame.filename]
    frame = (own or frames)[-1]
    lines = [f.lineno for f in frames if f.filename == PROGRAM]
    return Error(
        type(error).__name__,
        str(error),
        f"{Path(frame.filename).name}:{frame.name}",
        not own or (isinstance(error, PROPER) and not isinstance(error, RecursionError)),
        (lines[0] or 1) - 1 if lines else 0,
    )


def gist(message: str) -> str:
    """The first line of a message without its numbers, quotes and addresses."""
    text = (message.strip().splitlines() or [""])[0]
    text = re.sub(r"\bgot\b.*", "got …", text)
    text = re.sub(r"/tmp/\w+", "…", text)
    text = re.sub(r"'[^']*'|\"[^\"]*\"|0x[0-9a-f]+|\[[^\]]*\]|\([^)]*\)", "…", text)
    return re.sub(r"-?\d[\d.e+-]*", "#", text)[:110]
