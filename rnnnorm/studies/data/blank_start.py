"""A generated task whose sequences all begin alike, as images with a black border do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rnnnorm.common.ranges import Range, at_least
from rnnnorm.data.synthetic import Integers, TemporalOrder


class BlankStart(TemporalOrder):
    """Temporal order (Hochreiter & Schmidhuber 1997) after a border: `blank` steps that are the same in all sequences.

    The border repeats the symbol E, which begins every sequence anyway; the problem lies in the steps after it. From a
    state h_0 that all sequences share, all states are equal up to the end of the border, so that their variance over a
    batch is exactly 0: the situation of sequential MNIST, whose images begin with about a hundred black pixels.

    Args:
        blank: steps of the border.
        **keys: see `rnnnorm.data.TemporalOrder`; lengths include the border.

    Raises:
        ValueError: a negative border, or the shortest sequence has fewer than 10 steps after it.
    """

    ranges: ClassVar[Mapping[str, Range]] = {"blank": at_least(0)}

    def __init__(self, blank: int = 20, **keys: Any) -> None:
        super().__init__(**keys)
        self.blank = blank
        self._require(blank + 10)

    def generate(self, lengths: Integers, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Make (N, 1) tokens and (B,) classes."""
        inner, classes = super().generate(lengths - self.blank, random)
        rows = torch.full((int(lengths.sum()), 1), self.SYMBOLS.index("E"), dtype=inner.dtype)
        starts = lengths.cumsum() - lengths
        step = np.arange(len(rows)) - np.repeat(starts, lengths)
        rows[torch.from_numpy(step >= self.blank)] = inner
        return rows, classes
