"""Temporal order without the signs at its start and end, at which all sequences of a batch agree."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rnnnorm.data.synthetic import Integers, TemporalOrder


class UnframedTemporalOrder(TemporalOrder):
    """Temporal order whose first and last symbols are drawn from {a, b, c, d} like those between.

    In the original each sequence begins with E and ends with B. At the first step all rows of a batch are then equal:
    their variance is 0, and whatever a stored mean is off by is divided by √ε. This variant has lengths as ragged, but
    no such step, and so tells the two apart. Targets, lengths and all other symbols are those of `TemporalOrder` with
    the same keys.

    Args:
        **keys: see `rnnnorm.data.TemporalOrder`.
    """

    def generate(self, lengths: Integers, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Make (N, 1) tokens and (B,) classes."""
        tokens, classes = super().generate(lengths, random)
        ends = lengths.cumsum()
        for places in (ends - lengths, ends - 1):
            tokens[torch.from_numpy(places), 0] = torch.from_numpy(
                random.integers(self.SYMBOLS.index("X"), size=len(lengths))
            )
        return tokens, classes
