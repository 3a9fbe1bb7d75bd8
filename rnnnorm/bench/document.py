"""File of a benchmark: command, machine, summary and records as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .records import Record, frame
from .shapes import Shape
from .summary import summarize


@dataclass(frozen=True)
class Benchmark:
    """A whole benchmark.

    Args:
        command: what made it.
        machine: where; see `rnnnorm.bench.machine.describe`.
        records: the numbers; see `frame`.
    """

    command: str
    machine: dict[str, Any]
    records: pd.DataFrame


def save(run: Benchmark, path: Path) -> None:
    """Write the file: command, machine, the summary over shapes, and a flat list of records."""
    rows = run.records.astype(object).where(run.records.notna(), None)
    document = {
        "command": run.command,
        "machine": run.machine,
        "summary": summarize(run.records).to_dict("records"),
        "records": rows.to_dict("records"),
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(path: Path) -> Benchmark:
    """Read a file that `save` has written.

    Raises:
        ValueError: something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = [[row[name] for name in Record._fields] for row in document["records"]]
        records = frame(Record(*row)._replace(shape=Shape(*row[1])) for row in rows)
        return Benchmark(str(document["command"]), dict(document["machine"]), records)
    except (ValueError, KeyError, TypeError) as error:  # what JSON and decoding raise are ValueErrors
        raise ValueError(f"{path} is no file that `rnnnorm bench --json` wrote: {error!r}") from error
