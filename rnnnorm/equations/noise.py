"""What is random inside a recurrence: three kinds of recurrent dropout."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """The dropout inside the recurrence of one layer; all of it acts on active rows only.

    Args:
        hidden: probability of dropping an entry of h_{t-1} where W_hh reads it; one mask per sequence, the same at all
            steps (Gal & Ghahramani 2016).
        update: probability of dropping an entry of what is added to the state, the LSTM's g_t or the GRU's n_t; a mask
            per step (Semeniuta et al. 2016). What is remembered is never dropped.
        zoneout: probability that an entry of h (and c) keeps its value of the step before, one per state
            (Krueger et al. 2017); a mask per step. In evaluation the expectation takes its place.
        training: draw masks; otherwise only zoneout's expectation remains.
    """

    hidden: float = 0.0
    update: float = 0.0
    zoneout: tuple[float, ...] = ()
    training: bool = True

    def any(self) -> bool:
        """Whether anything differs from the plain recurrence."""
        return bool(self.hidden or self.update or any(self.zoneout))

    def evaluating(self) -> Noise:
        """What remains of it in evaluation."""
        return replace(self, hidden=0.0, update=0.0, training=False)

    def mask(self, h: Tensor) -> Tensor | None:
        """Draw the mask of h_{t-1} for all sequences, (B, H), scaled by 1/(1-p)."""
        return F.dropout(torch.ones_like(h), self.hidden) if self.hidden else None

    def drop(self, update: Tensor) -> Tensor:
        """Drop entries of the update of one step."""
        return F.dropout(update, self.update) if self.update else update

    def zone(self, old: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Let entries of the states keep their old value: d ⊙ old + (1 - d) ⊙ new with P(d = 1) = p, or with d = p."""
        if not any(self.zoneout):
            return new
        zoned = []
        for before, after, p in zip(old, new, self.zoneout, strict=True):
            if self.training and p:
                zoned.append(torch.where(torch.rand_like(after) < p, before, after))
            else:
                zoned.append(after + p * (before - after) if p else after)
        return tuple(zoned)


QUIET = Noise()
"""Stands for "nothing is dropped here"."""
