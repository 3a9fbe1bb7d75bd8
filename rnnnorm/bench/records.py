"""Records of a benchmark, and tables of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .shapes import Shape

RATIO = "ratio to torch.nn.LSTM"
PADDED = "ratio to torch.nn.LSTM on padding"
SCRIPT = "times faster than TorchScript"
EAGER = "times faster than the eager reference"
PEAK = "peak MiB"
SHARE = "share of FMA peak"
BUSY = "times the time without neighbours"
SAME_KIND = "ratio to torch's module of the kind"

OURS = "rnnnorm.LSTM"
OUR_CELL = "rnnnorm.LSTMCell"
TORCH = "torch.nn.LSTM"
TORCH_PADDED = "torch.nn.LSTM on padding"
TORCH_CELL = "torch.nn.LSTMCell"
REFERENCE = "eager reference"
SCRIPTED = "TorchScript LayerNorm-LSTM"
PRODUCTS = "bare products"
AT_PEAK = "products at FMA peak"


class Record(NamedTuple):
    """Number with its spread.

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


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """Records as a table: one row each, their fields as columns; `ms` is NaN where it is None."""
    return pd.DataFrame(list(records), columns=Record._fields).astype({"ms": float})


def pick(records: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """Rows whose columns have these values."""
    for name, value in wanted.items():
        records = records[records[name] == value]
    return records


def geometric_mean(values: Iterable[float]) -> float:
    """Exponential of the mean logarithm: the mean that does not depend on which side of a ratio is on top.

    Raises:
        ValueError: no values, or one that is not positive.
    """
    every = list(values)
    if not every or min(every) <= 0:
        raise ValueError(f"a geometric mean needs positive values, got {every}")
    return float(np.exp(np.mean(np.log(every))))
