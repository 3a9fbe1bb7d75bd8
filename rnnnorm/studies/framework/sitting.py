"""Sittings: with what command, from which source, on which machine, and for how long a run of studies was measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from rnnnorm._version import __version__
from rnnnorm.bench.machine import describe, one_line
from rnnnorm.common.source import commit
from rnnnorm.engine.records import write_json

FILE = "sittings.json"


def sittings(out: Path) -> list[dict[str, Any]]:
    """The sittings of a run, the first one first.

    Args:
        out: the folder with one folder per study.

    Returns:
        dictionaries with `command`, `version`, `commit` (see there), `machine`, `began` (UTC) and `seconds`.
    """
    try:
        content = json.loads((out / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return content if isinstance(content, list) else []


@contextmanager
def sitting(out: Path, command: str) -> Iterator[Callable[[], None]]:
    """Entry of one call of a command in `sittings.json`.

    Args:
        out: the folder with one folder per study.
        command: what was called.

    Yields:
        a function that notes how long it has taken so far: a process that is killed cannot say it at its end.
    """
    before, began = sittings(out), datetime.now(UTC)
    entry: dict[str, Any] = {
        "command": command,
        "version": __version__,
        "commit": commit(),
        "machine": one_line(describe(torch.device("cpu"))),
        "began": began.strftime("%Y-%m-%d %H:%M UTC"),
    }

    def note() -> None:
        entry["seconds"] = round((datetime.now(UTC) - began).total_seconds(), 1)
        with suppress(OSError):  # a full disk has been reported by the run itself
            write_json(out / FILE, [*before, entry])

    note()
    try:
        yield note
    finally:
        note()
