"""A trial: one point of a study's grid, trained or only measured."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rnnnorm.engine.run import Run

Condition = str | int | float | bool

Row = Mapping[str, Any]
"""One measured number: `quantity` and `value`, and whatever says where (`t`, `mode`, …)."""


@dataclass(frozen=True)
class Trial:
    """One point of a study's grid.

    Args:
        conditions: what distinguishes it from other points, apart from norm and seed; columns of `measurements.csv`.
        norm: the normalizer, a preset with overrides.
        seed: of weights, batches and noise.
        config: `data`, `model` and `trainer` as `rnnnorm compare -c` takes them, if a network is to be trained.
        weight: about how many seconds it takes; only the ratios between trials matter, for the time left.
    """

    conditions: Mapping[str, Condition]
    norm: str
    seed: int
    config: Mapping[str, Any] | None = field(default=None, compare=False)
    weight: float = field(default=1.0, compare=False)

    @property
    def arm(self) -> str:
        """The folder of its conditions, `batch_size=4,lr=0.1`; "all" if there are none."""
        whole = ",".join(f"{key}={value}" for key, value in self.conditions.items()) or "all"
        name = re.sub(r"[^A-Za-z0-9_=.,+-]", "_", whole)
        # File systems take 255 bytes; what is replaced or cut off must not make two arms one.
        return name if name == whole and len(name) <= 120 else f"{name[:110]}-{zlib.crc32(whole.encode()):08x}"

    def run(self, out: Path) -> Run:
        """Its place below the folder of a study: `<arm>/<norm>/seed=<k>/`."""
        return Run(self.norm, self.seed, out / self.arm)

    def name(self) -> str:
        """What the terminal and TensorBoard call it."""
        return f"{self.arm}/{Run(self.norm, self.seed, Path()).name}"

    def measured(self, out: Path) -> Path:
        """Where its measurements are kept."""
        return self.run(out).folder / "measurements.json"

    def read(self, out: Path) -> list[Row] | None:
        """Its measurements, or None if it has not been measured yet."""
        try:
            rows = json.loads(self.measured(out).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        complete = isinstance(rows, list) and all(
            isinstance(row, dict) and {"quantity", "value"} <= {*row} for row in rows
        )
        return rows if complete else None
