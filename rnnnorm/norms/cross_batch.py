"""Cross mini-Batch Normalization, in its two published senses: averages over all batches, or over a few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..common.ranges import Range, at_least
from .base import in_backward
from .batch_statistics import BatchNormalizer, moments
from .buffers import HALF, StatisticBuffers


class CrossBatchNorm(BatchNormalizer):
    """Normalization by exponential averages over mini-batches: y = g ⊙ (x - μ) / √(σ² + ε) + b, rows (B_t, F).

        μ ← α μ + (1 - α) μ_B            σ² ← α σ² + (1 - α) σ²_B

    The averages that include the current batch are used in training, and the same ones in evaluation. The gradient
    flows through the current batch's share (1 - α) only; the averages of earlier batches are constants. A widely copied
    example keeps the averages with their graph, so that its second backward pass fails; here they are buffers.

    `statistics`, T_max and few rows are as in `BatchNorm`: gain and bias are shared over time, the averages are per
    step for "timestep"; for "shared" they move at every step, so that a step sees those before it. The variance is the
    biased one, averaged and used as it is. The first batch that a slot sees sets its averages. At t ≥ T_max with
    tail="last" the last slot's averages take part and stay as they are. Stored values: 2F, or 2·T_max·F.

    Args:
        num_features: F.
        statistics: "sequence", "shared" or "timestep".
        gain: initial g.
        eps: ε.
        momentum: 1 - α, weight of the newest batch, 0.1; None: average over all rows seen.
        max_steps: T_max.
        tail: "last", "pool" or "error": see `StoredStatistics`.
        min_rows: fewest rows that enter the averages; fewer use the stored ones.
        bias: learn b.

    Raises:
        ValueError: an argument outside its range.

    Source: the name is that of Bochkovskiy et al., "YOLOv4", 2020, whose own definition is `cmbn-accumulated`.
    """

    name: ClassVar[str] = "cmbn"
    summary: ClassVar[str] = "exponential averages of batch moments, used in training, too"
    source: ClassVar[str] = "after Bochkovskiy et al. 2020, with exponential averages"
    remembers_batches: ClassVar[bool] = True
    evaluates_by = "running"

    def _train(self, rows: Tensor, t: int, slot: int | None) -> Tensor:
        stats, n, index = self.stats, rows.shape[0], -1 if slot is None else slot

        def read() -> tuple[Tensor, ...]:
            mean, var = stats.running_mean[index].clone(), stats.running_var[index].clone()
            return mean, var, self._weight_or_first(slot, n)

        old_mean, old_var, weight = self.first_pass(t, read)
        batch_mean, batch_var = moments(rows)
        share = weight.to(rows.dtype)
        mean = torch.lerp(old_mean.to(rows.dtype), batch_mean, share)
        var = torch.lerp(old_var.to(rows.dtype), batch_var, share)
        if slot is not None and not in_backward():
            self._move(slot, batch_mean, batch_var, weight, n)
        return self._by_moments(rows, mean, var)


class _Accumulated(StatisticBuffers):
    """Rows, mean and summed squared deviations per slot, of the mini-batches of one accumulation batch so far."""

    rows: Tensor
    mean: Tensor
    squares: Tensor
    mini_batches: Tensor

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(like.shape[0], dtype=torch.long, device=like.device))
        self.register_buffer("mean", torch.zeros_like(like, dtype=torch.float32 if like.dtype in HALF else None))
        self.register_buffer("squares", torch.zeros_like(self.mean))
        self.register_buffer("mini_batches", torch.zeros((), dtype=torch.long, device=like.device))

    def reset(self) -> None:
        for buffer in (self.rows, self.mean, self.squares, self.mini_batches):
            buffer.zero_()

    def begin(self, accumulate: int) -> None:
        """Count a mini-batch; after `accumulate` of them, start again from nothing."""
        if int(self.mini_batches) == accumulate:
            self.reset()
        self.mini_batches += 1


class AccumulatedBatchNorm(BatchNormalizer):
    """Cross mini-Batch Normalization of YOLOv4: y = g ⊙ (x - μ) / √(σ² + ε) + b, rows (B_t, F).

    μ and σ² are the moments of all rows of the mini-batches 1 … j of one gradient-accumulation batch, j being the
    current one; after k = `accumulate` of them everything starts anew. Earlier mini-batches are constants: no
    compensation for weights, which do not change inside an accumulation batch, and gradient through the current one
    only. Set k to the trainer's `accumulate_grad_batches`; k = 1 is `BatchNorm`. A mini-batch is one forward pass in
    training.

    Moments are combined from (rows, mean, summed squared deviations), each row counting once, the variance biased.
    darknet instead averages the mini-batches' μ and E[x²], the latter divided by n - 1, and takes
    σ² = max(0, E[x²] - μ²), which loses digits where |μ| is large; its rolling average has weight 0.01.

    `statistics`, T_max and few rows are as in `BatchNorm`: gain and bias are shared over time, moments are per step for
    "timestep"; for "shared" the rows of all steps so far flow into one. Evaluation uses running averages of each
    mini-batch's own moments, as `BatchNorm` does. Stored values: 4F, or 4·T_max·F: the running averages, and what has
    been accumulated.

    Args:
        num_features: F.
        accumulate: k, mini-batches per accumulation batch.
        statistics: "sequence", "shared" or "timestep".
        gain: initial g.
        eps: ε.
        momentum: weight of the newest mini-batch in the running averages; None: average over all rows seen.
        max_steps: T_max.
        tail: "last", "pool" or "error": see `StoredStatistics`.
        min_rows: fewest rows that enter the moments; fewer use the stored ones.
        bias: learn b.

    Raises:
        ValueError: an argument outside its range.

    Source: Bochkovskiy et al., "YOLOv4", 2020; darknet's batchnorm layer with cbn=1.
    """

    name: ClassVar[str] = "cmbn-accumulated"
    summary: ClassVar[str] = "moments of the mini-batches of one gradient-accumulation batch so far"
    source: ClassVar[str] = "Bochkovskiy et al. 2020"
    ranges: ClassVar[Mapping[str, Range]] = {"accumulate": at_least(1)}
    remembers_batches: ClassVar[bool] = True

    def __init__(self, num_features: int, *, accumulate: int = 4, **kw: Any) -> None:
        super().__init__(num_features, **kw)
        self.accumulate = accumulate
        self.accumulated = _Accumulated(self.stats.running_mean)

    def reset_parameters(self) -> None:
        """Gain and bias to their initial values; nothing accumulated."""
        super().reset_parameters()
        if "accumulated" in self._modules:  # not yet inside the constructor
            self.accumulated.reset()

    def _train(self, rows: Tensor, t: int, slot: int | None) -> Tensor:
        past, n, counting = self.accumulated, rows.shape[0], not in_backward()
        if counting and self._begins_batch(t):
            past.begin(self.accumulate)
        batch_mean, batch_var = moments(rows)
        if slot is None:
            return self._by_moments(rows, batch_mean, batch_var)
        seen, old_mean, old_squares = self.first_pass(
            t, lambda: (past.rows[slot].clone(), past.mean[slot].clone(), past.squares[slot].clone())
        )
        seen = seen.to(rows.dtype)
        part = n / (seen + n)
        delta = batch_mean - old_mean.to(rows.dtype)
        mean = old_mean.to(rows.dtype) + delta * part
        squares = old_squares.to(rows.dtype) + batch_var * n + delta.square() * (seen * part)
        if counting:
            with torch.no_grad():
                past.rows[slot] += n
                past.mean[slot], past.squares[slot] = mean, squares
            self._move(slot, batch_mean, batch_var * (n / (n - 1)), self._weight(slot, n), n)
        return self._by_moments(rows, mean, squares / (seen + n))

    def extra_repr(self) -> str:
        """Everything that is not visible in the parameters."""
        return f"{super().extra_repr()}, accumulate={self.accumulate}"
