"""Table of a quantity against t, one row per measurement: the data of a heat map."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Table:
    """A quantity against t at training steps that lie ever further apart, so that a long run needs no more room.

    Args:
        limit: rows kept. When there is one more, every other row is dropped, and from then on every other measurement.
    """

    def __init__(self, limit: int = 256) -> None:
        if limit < 2:
            raise ValueError(f"a table keeps at least 2 rows, got limit={limit}")
        self.limit = limit
        self.steps: list[int] = []
        """Training step of each row."""
        self._rows: list[Tensor] = []
        self._stride, self._seen = 1, 0

    def add(self, step: int, row: Tensor) -> None:
        """Take in a measurement, (T,); T may differ from row to row."""
        if self._seen % self._stride == 0:
            self.steps.append(step)
            self._rows.append(row.detach().to("cpu", torch.float32))
        self._seen += 1
        if len(self.steps) > self.limit:
            self.steps, self._rows = self.steps[::2], self._rows[::2]
            self._stride *= 2

    def array(self) -> NDArray[Any]:
        """All rows, (measurements, T) float32; nan where a row has ended."""
        found = np.full((len(self._rows), max(map(len, self._rows), default=0)), np.nan, dtype=np.float32)
        for line, row in zip(found, self._rows, strict=True):
            line[: len(row)] = row.numpy()
        return found

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: numbers, lists and tensors."""
        return {"steps": self.steps[:], "rows": self._rows[:], "stride": self._stride, "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self.steps, self._rows = list(state["steps"]), list(state["rows"])
        self._stride, self._seen = state["stride"], state["seen"]
