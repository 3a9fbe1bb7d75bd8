"""Batch normalization of many timesteps at once, for scans that compute the moments themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import in_backward
from .statistics import StoredStatistics


class ColumnSteps:
    """Interface of a normalizer with `ColumnStatistics` for scans; its effect is that of calling it step by step.

    The rows of a packed batch never become more, so the steps that have enough rows for moments of their own are the
    first ones: `own_steps` says how many, the scan computes their moments and gives them to `observe`, and `recall`
    gives what stands in for moments at the others.
    """

    stats: StoredStatistics
    min_rows: int
    momentum: float | None

    def _learns(self) -> bool:
        raise NotImplementedError

    def own_steps(self, batch_sizes: Sequence[int]) -> int:
        """Number of steps, from the first one, that are normalized by moments of their own rows."""
        return self._enough(batch_sizes) if self.uses_own() else 0

    def uses_own(self) -> bool:
        """Whether steps with enough rows are normalized by moments of their own, in training or in evaluation."""
        stats = self.stats
        return self._learns() or stats.accumulator is not None or stats.source == "batch"

    def wants_moments(self) -> bool:
        """Whether population statistics are being gathered, so that moments matter at every step."""
        return self.stats.accumulator is not None

    def recall(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Stored mean and variance of the steps start … stop - 1, (stop - start, F) each, as copies."""
        return self.stats.recall_steps(start, stop)

    @torch.no_grad()
    def observe(self, start: int, batch_sizes: Sequence[int], mean: Tensor, var: Tensor) -> None:
        """Take in the moments of consecutive steps, in their order.

        Args:
            start: number of the first of them.
            batch_sizes: rows of each.
            mean: (steps, F).
            var: (steps, F), biased.
        """
        stats = self.stats
        slots = [stats.slot(t) for t in range(start, start + len(batch_sizes))]
        if stats.accumulator is not None:
            kept = [k for k, slot in enumerate(slots) if slot is not None]
            into = [slot for slot in slots if slot is not None]
            stats.accumulator.add_steps(into, [batch_sizes[k] for k in kept], mean[kept], var[kept])
        if self._learns() and not in_backward():
            own = self._enough(batch_sizes)
            stats.move_steps(slots[:own], batch_sizes[:own], mean[:own], var[:own], self.momentum, start == 0)

    def _enough(self, batch_sizes: Sequence[int]) -> int:
        fewest = self.stats.fewest(self.min_rows)
        if batch_sizes[-1] >= fewest:  # they never grow
            return len(batch_sizes)
        return sum(rows >= fewest for rows in batch_sizes)
