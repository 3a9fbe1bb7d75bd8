"""Records of a benchmark, and its JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .shapes import Shape

RATIO = "ratio to torch.nn.LSTM"
PADDED = "ratio to torch.nn.LSTM on padding"
SCRIPT = "times faster than TorchScript"
EAGER = "times faster than the eager reference"
PEAK = "peak MiB"

OURS = "rnnnorm.LSTM"
OUR_CELL = "rnnnorm.LSTMCell"
TORCH = "torch.nn.LSTM"
TORCH_PADDED = "torch.nn.LSTM on padding"
TORCH_CELL = "torch.nn.LSTMCell"
REFERENCE = "eager reference"
SCRIPTED = "TorchScript LayerNorm-LSTM"
PRODUCTS = "bare products"


@dataclass(frozen=True)
class Record:
    """One number with its spread.

    Args:
        part: what was measured, out of `rnnnorm.bench.PARTS`.
        shape: T, B, I, H.
        lengths: out of `rnnnorm.bench.shapes.LENGTHS`.
        contender: what was measured, such as `rnnnorm.LSTM`.
        norm: its preset; empty where it has none.
        backend: the one that ran, of rnnnorm's; empty for others.
        metric: what the number is, such as `ratio to torch.nn.LSTM`.
        median: over the rounds.
        q1: first quartile.
        q3: third quartile.
        ms: the contender's own median time in milliseconds (of one timestep where streaming); None for memory.
        rounds: measurements behind it.
    """

    part: str
    shape: Shape
    lengths: str
    contender: str
    norm: str
    backend: str
    metric: str
    median: float
    q1: float
    q3: float
    ms: float | None
    rounds: int


def geometric_mean(values: Iterable[float]) -> float:
    """The exponential of the mean logarithm: the mean that does not depend on which side of a ratio is on top.

    Raises:
        ValueError: no values, or one that is not positive.
    """
    every = list(values)
    if not every or min(every) <= 0:
        raise ValueError(f"a geometric mean needs positive values, got {every}")
    return math.exp(math.fsum(map(math.log, every)) / len(every))


def pick(records: Iterable[Record], **wanted: Any) -> list[Record]:
    """The records whose fields have these values."""
    return [r for r in records if all(getattr(r, name) == value for name, value in wanted.items())]


@dataclass(frozen=True)
class Run:
    """A whole benchmark.

    Args:
        command: what made it.
        machine: where; see `rnnnorm.bench.machine.describe`.
        records: the numbers.
    """

    command: str
    machine: dict[str, Any]
    records: Sequence[Record]


def save(run: Run, path: Path) -> None:
    """Write the file: command, machine, the summary over shapes, and a flat list of records."""
    from .summary import summarize

    document = {
        "command": run.command,
        "machine": run.machine,
        "summary": [asdict(line) for line in summarize(run.records)],
        "records": [asdict(record) | {"shape": list(record.shape)} for record in run.records],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(path: Path) -> Run:
    """Read a file that `save` has written.

    Raises:
        ValueError: something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        names = [field.name for field in fields(Record)]
        rows = [{name: row[name] for name in names} for row in document["records"]]
        records = [Record(**row | {"shape": Shape(*row["shape"])}) for row in rows]
        return Run(str(document["command"]), dict(document["machine"]), records)
    except (ValueError, KeyError, TypeError) as error:  # what JSON and decoding raise are ValueErrors
        raise ValueError(f"{path} is no file that `rnnnorm bench --json` wrote: {error!r}") from error
