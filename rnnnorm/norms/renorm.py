"""Batch Renormalization: batch moments, corrected towards the moving averages that evaluation uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.ranges import Range, at_least
from .base import in_backward
from .batch_statistics import BatchNormalizer, moments


class BatchRenorm(BatchNormalizer):
    """Batch Renormalization: y = g ⊙ ((x - μ_B) / σ_B · r + d) + b, for rows (B_t, F), feature by feature.

        r = clip(σ_B / σ, 1/r_max, r_max)        d = clip((μ_B - μ) / σ, -d_max, d_max)        σ_B = √(σ²_B + ε)

    μ and σ are moving averages over batches, r and d constants in the backward pass. Where nothing is clipped,
    y = g ⊙ (x - μ) / σ + b: training computes what evaluation will. With r_max = 1 and d_max = 0 it is `BatchNorm`.

    Schedule, in training steps (forward passes over a batch, however many timesteps it has), counted in a buffer:
    r_max = 1 and d_max = 0 for the first `warmup` steps, then linear up to `r_max` at step `r_end` and up to `d_max` at
    step `d_end`.

    As in the paper, σ itself is averaged, not σ², and without Bessel's correction; what is stored is σ² - ε, so that
    the statistics read like those of `BatchNorm`. `statistics`, T_max and few rows are as in `BatchNorm`: gain, bias
    and schedule are shared over time, μ and σ are per step for "timestep". Ours: the first batch that a slot sees sets
    its averages and is not corrected, since a late step may first occur long after the warm-up; at t ≥ T_max with
    tail="last" the correction is towards the last slot. Stored values: 2F, or 2·T_max·F for "timestep".

    Args:
        num_features: F.
        statistics: "sequence", "shared" or "timestep".
        r_max: final bound of r, 3.
        d_max: final bound of d, 5.
        warmup: steps of plain batch normalization, 5000; 0: none.
        r_end: step at which r's bound is final, 40000.
        d_end: step at which d's bound is final, 25000.
        gain: initial g.
        eps: ε.
        momentum: α, weight of the newest batch in the averages, 0.01; None: average over all rows seen.
        max_steps: T_max.
        tail: "last", "pool" or "error": see `StoredStatistics`.
        min_rows: fewest rows that are normalized by their own moments; fewer use the averages.
        bias: learn b.

    Raises:
        ValueError: an argument outside its range.

    Source: Ioffe, "Batch Renormalization", NeurIPS 2017, which gives all defaults.
    """

    name: ClassVar[str] = "brn"
    summary: ClassVar[str] = "batch moments, corrected towards their moving averages within growing bounds"
    source: ClassVar[str] = "Ioffe 2017"
    ranges: ClassVar[Mapping[str, Range]] = {
        "r_max": at_least(1, why="where r is fixed to 1"),
        "d_max": at_least(0),
        "warmup": at_least(0),
        "r_end": at_least(0),
        "d_end": at_least(0),
    }
    exact_gradient: ClassVar[bool] = False  # r and d depend on x, and count as constants
    evaluates_by = "running"
    remembers_batches: ClassVar[bool] = True
    training_steps: Tensor

    def __init__(
        self,
        num_features: int,
        *,
        r_max: float = 3.0,
        d_max: float = 5.0,
        warmup: int = 5000,
        r_end: int = 40000,
        d_end: int = 25000,
        momentum: float | None = 0.01,
        **kw: Any,
    ) -> None:
        super().__init__(num_features, momentum=momentum, **kw)
        if not warmup <= min(r_end, d_end):
            raise ValueError(
                f"the schedule needs 0 <= warmup <= r_end and d_end, got warmup={warmup}, r_end={r_end}, d_end={d_end}"
            )
        self.r_max, self.d_max, self.warmup, self.r_end, self.d_end = r_max, d_max, warmup, r_end, d_end
        self.register_buffer("training_steps", torch.zeros((), dtype=torch.long, device=kw.get("device")))
        self._bounds = (1.0, 0.0)

    def bounds(self, step: int) -> tuple[float, float]:
        """r_max and d_max of the schedule at a training step, counted from 0."""

        def risen(end: int) -> float:
            return min(max(step - self.warmup, 0) / (end - self.warmup), 1.0) if step < end else 1.0

        return 1 + (self.r_max - 1) * risen(self.r_end), self.d_max * risen(self.d_end)

    def reset_parameters(self) -> None:
        """Gain and bias to their initial values, the schedule to its start."""
        super().reset_parameters()
        if "training_steps" in self._buffers:  # not yet inside the constructor
            self.training_steps.zero_()

    def _train(self, rows: Tensor, t: int, slot: int | None) -> Tensor:
        counting = not in_backward()
        if counting and self._begins_batch(t):
            self._bounds = self.bounds(int(self.training_steps))
            self.training_steps += 1
        r, d = self.first_pass(t, lambda: self._correction(rows, slot))
        if counting and slot is not None:
            self._move_deviation(rows, slot)
        gain, bias = self._affine(rows)
        shift = gain * d if bias is None else gain * d + bias
        return F.batch_norm(rows, None, None, gain * r, shift, True, 0.0, self.eps)

    def _correction(self, rows: Tensor, slot: int | None) -> tuple[Tensor, Tensor]:
        """The constants r and d (F,); 1 and 0 where there are no averages yet."""
        stats, index = self.stats, -1 if slot is None else slot
        r_max, d_max = self._bounds
        batch_mean, batch_var = moments(rows)
        mean, var = stats.running_mean[index].to(rows.dtype), stats.running_var[index].to(rows.dtype)
        r = torch.sqrt((batch_var + self.eps) / (var + self.eps)).clamp(1 / r_max, r_max)
        d = ((batch_mean - mean) * torch.rsqrt(var + self.eps)).clamp(-d_max, d_max)
        known = stats.num_rows[index] > 0
        return torch.where(known, r, 1.0), torch.where(known, d, 0.0)

    @torch.no_grad()
    def _move_deviation(self, rows: Tensor, slot: int) -> None:
        """Average μ and σ, with ε inside σ: both as the paper does."""
        stats, n = self.stats, rows.shape[0]
        mean, var = moments(rows)
        weight = self._weight_or_first(slot, n)
        old, new = (stats.running_var[slot] + self.eps).sqrt(), (var + self.eps).sqrt().to(stats.running_var.dtype)
        deviation = torch.lerp(old, new, weight)
        stats.running_mean[slot].lerp_(mean.to(stats.running_mean.dtype), weight)
        stats.running_var[slot] = deviation.square().sub_(self.eps).clamp_(min=0)
        stats.num_rows[slot] += n

    def extra_repr(self) -> str:
        """Everything that is not visible in the parameters."""
        schedule = f"r_max={self.r_max:g}@{self.r_end}, d_max={self.d_max:g}@{self.d_end}, warmup={self.warmup}"
        return f"{super().extra_repr()}, {schedule}"
