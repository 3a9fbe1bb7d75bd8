"""Records as a benchmark leaves them, with numbers that the tests choose."""

from __future__ import annotations

from typing import Any

import pandas as pd

from rnnnorm.bench.document import Benchmark
from rnnnorm.bench.records import (
    OUR_CELL,
    OURS,
    PADDED,
    PEAK,
    PRODUCTS,
    RATIO,
    REFERENCE,
    SCRIPT,
    SCRIPTED,
    TORCH,
    TORCH_PADDED,
    Record,
    frame,
)
from rnnnorm.bench.shapes import Shape

SMALL, WIDE = Shape(10, 4, 3, 8), Shape(5, 2, 3, 64)
MACHINE = {
    "cpu": "Some CPU",
    "cores": 2,
    "threads": 1,
    "isa": "AVX2",
    "device": "cpu",
    "torch": "2.9.0",
    "rnnnorm": "1.2.3",
}


def record(median: float = 1.0, **fields: Any) -> Record:
    """One number, by default ours in the dense part; its quartiles lie a tenth below and above."""
    default: dict[str, Any] = {
        "part": "dense",
        "shape": SMALL,
        "lengths": "dense",
        "contender": OURS,
        "norm": "ln",
        "backend": "native",
        "metric": RATIO,
        "q1": 0.9 * median,
        "q3": 1.1 * median,
        "ms": 2.5,
        "rounds": 7,
    }
    return Record(median=median, **default | fields)


def table(*records: Record) -> pd.DataFrame:
    """The table of some records."""
    return frame(records)


def whole_run(norms: tuple[str, ...] = ("none", "ln")) -> Benchmark:
    """Every part at two shapes, with all contenders that have a row of their own."""
    records = []
    for part, lengths in (("dense", "dense"), ("ragged", "uniform"), ("ragged", "heavy-tailed"), ("forward", "dense")):
        for shape in (SMALL, WIDE):
            cell: dict[str, Any] = {"part": part, "lengths": lengths, "shape": shape}
            records.append(record(1.0, contender=TORCH, norm="", backend="", **cell))
            records.append(record(0.25, contender=PRODUCTS, norm="", backend="", **cell))
            records.append(record(3.0, contender=SCRIPTED, norm="", backend="", **cell))
            if part == "ragged":
                records.append(record(1.5, contender=TORCH_PADDED, norm="", backend="", **cell))
            for k, norm in enumerate(norms):
                records.append(record(0.8 + k, norm=norm, **cell))
                records.append(record(4.0 - k, norm=norm, metric=SCRIPT, **cell))
                records.append(record(5.0 + k, norm=norm, contender=REFERENCE, backend="reference", **cell))
                if part == "ragged":
                    records.append(record(0.7 + k, norm=norm, metric=PADDED, **cell))
    for shape in (SMALL, WIDE):
        for metric, value in ((RATIO, 1.25), (PEAK, 12.5)):
            for norm in norms:
                fields: dict[str, Any] = {"part": "memory", "shape": shape, "norm": norm, "metric": metric}
                records.append(record(value, ms=None, rounds=1, q1=value, q3=value, **fields))
    for shape in (Shape(1, 1, 3, 8), Shape(1, 1, 3, 64)):
        for norm in norms:
            records.append(record(1.75, part="streaming", shape=shape, norm=norm, ms=0.012))
            records.append(record(0.5, part="streaming", shape=shape, norm=norm, contender=OUR_CELL, backend="step"))
    for shape in (SMALL, SMALL._replace(T=20), SMALL._replace(B=8), SMALL._replace(H=16), SMALL._replace(H=32)):
        for norm in norms:
            records.append(record(1.1, part="growth", shape=shape, norm=norm))
    return Benchmark("rnnnorm bench --some options", MACHINE, frame(records))
