"""Exact moments per slot, gathered over any number of batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Accumulator:
    """Mean and variance per slot over any number of batches, each row weighted alike, in float64 (Chan et al. 1979).

    Args:
        like: (S, F), the stored means of the statistics it gathers for.
        serves: whether steps with one row, which has no moments of its own, read the moments gathered so far, as
            evaluation by population statistics will do; otherwise they read the running averages. What they read are
            moments of at least two rows at a time, so it does not depend on the order of single rows.
    """

    serves: bool = False

    def __init__(self, like: Tensor, serves: bool = False) -> None:
        self.serves = serves
        self.count = torch.zeros(like.shape[0], 1, dtype=torch.float64, device=like.device)
        self.mean = torch.zeros_like(like, dtype=torch.float64)
        self.squares = torch.zeros_like(like, dtype=torch.float64)
        self._single: list[tuple[list[int], list[int], Tensor, Tensor]] = []

    def add(self, slot: int, rows: Tensor) -> None:
        """Take in rows (n, F) of one slot."""
        rows = rows.detach().double()
        mean = rows.mean(0)
        self.add_moments(slot, rows.shape[0], mean, ((rows - mean) ** 2).mean(0))

    def add_moments(self, slot: int, n: int, mean: Tensor, var: Tensor) -> None:
        """Take in n rows of which only the mean (F,) and the biased variance (F,) are known."""
        if n < 2 and self.serves:
            self._single.append(([slot], [n], mean.unsqueeze(0), var.unsqueeze(0)))
            return
        mean, var, total = mean.detach().double(), var.detach().double(), self.count[slot] + n
        delta = mean - self.mean[slot]
        self.squares[slot] += var * n + delta**2 * self.count[slot] * n / total
        self.mean[slot] += delta * n / total
        self.count[slot] = total

    def add_steps(self, slots: Sequence[int], rows: Sequence[int], mean: Tensor, var: Tensor) -> None:
        """Take in several batches of rows, `rows[k]` of slot `slots[k]`: mean and var (len(slots), F)."""
        if rows and max(rows) < 2 and self.serves:  # they come last, since rows never become more
            self._single.append((list(slots), list(rows), mean, var))
            return
        mean, var = mean.detach().double(), var.detach().double()
        where = torch.tensor(slots, dtype=torch.long, device=mean.device)
        n = torch.tensor(rows, dtype=torch.float64, device=mean.device).unsqueeze(1)
        # All new rows of a slot as one batch first, and then that one to the old rows.
        count = torch.zeros_like(self.count).index_add_(0, where, n)
        pooled = torch.zeros_like(self.mean).index_add_(0, where, mean * n) / count.clamp(min=1)
        squares = torch.zeros_like(self.mean).index_add_(0, where, (var + (mean - pooled[where]) ** 2) * n)
        delta, total = pooled - self.mean, (self.count + count).clamp(min=1)
        self.squares += squares + delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count += count

    def finish(self) -> None:
        """Take in the single rows, too, now that nothing is read any more."""
        single, self._single, self.serves = self._single, [], False
        for slots, rows, mean, var in single:
            self.add_steps(slots, rows, mean, var)

    def moments(self, biased: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (S, F), variance (S, F), unbiased unless asked otherwise, and rows (S,) gathered so far."""
        freedom = self.count if biased else self.count - 1
        return self.mean, self.squares / freedom.clamp(min=1), self.count.squeeze(1).long()
