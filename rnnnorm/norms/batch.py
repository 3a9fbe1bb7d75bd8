"""Batch normalization over the active rows: per sequence, per step with shared averages, per step with its own."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Normalizer, at_least_float32
from .statistics import StepStatistics

SCOPES = ("sequence", "shared", "timestep")


def _in_backward() -> bool:
    """Whether autograd is running, that is, whether activation checkpointing runs the forward pass a second time."""
    return bool(torch._C._current_graph_task_id() != -1)


class BatchNorm(Normalizer):
    """Batch normalization: y = g ⊙ (x - μ) / √(σ² + ε) + b, with μ and σ² over rows, feature by feature.

    Only active rows exist here, so padding cannot enter a statistic. Normalization uses the biased variance, the
    running average the unbiased one. `statistics` says over which rows, and what is kept for evaluation:

    - "sequence": moments over all N = Σ_t B_t rows at once, one running pair; for the vertical places (Laurent et al.
      2016, sequence-wise; Deep Speech 2). It equals `torch.nn.BatchNorm1d` on `PackedSequence.data`.
    - "shared": moments over the B_t rows of each step, one running pair for all steps: the naive way.
    - "timestep": moments over the B_t rows of each step, a running pair per step (Cooijmans et al. 2017), since the
      states pass through a transient after t = 0: their distribution is another one at every step.

    Gain and bias are shared over time. Evaluation uses the running averages, the population statistics or the batch's
    own (`rnnnorm.statistics`). Stored values: 2F, or 2·T_max·F for "timestep".

    With fewer than `min_rows` rows no variance can be estimated: such a step uses the stored statistics of its slot, or
    of the last slot that has any (mean 0 and variance 1 before any training), and updates nothing; so a batch of one
    row is defined in training, too, and is then no constant. At t ≥ T_max a training step still normalizes by its
    batch's moments; `tail` says what is stored and what evaluation uses.

    Args:
        num_features: F.
        statistics: "sequence", "shared" or "timestep".
        gain: initial g. In a recurrence g = 1 multiplies gradients at every step and saturates tanh; Cooijmans et al.
            start at 0.1 in all three places.
        eps: ε inside the root, 1e-5. Steps at which all rows agree (h_0 = 0) multiply the gradient by g/√ε.
        momentum: weight of the newest batch in the running averages; None: average over all rows seen.
        max_steps: T_max, slots kept for "timestep".
        tail: "last", "pool" or "error": see `StepStatistics`.
        min_rows: fewest rows (at least 2) that estimate a variance.
        bias: learn b.

    Raises:
        ValueError: an argument outside its range; a step ≥ T_max with tail="error".

    Sources: Ioffe and Szegedy 2015; Laurent et al., ICASSP 2016; Amodei et al., ICML 2016; Cooijmans et al., ICLR 2017.
    """

    name: ClassVar[str] = "bn"
    summary: ClassVar[str] = "each feature by its mean and variance over the batch's active rows"
    source: ClassVar[str] = "Ioffe & Szegedy 2015; Laurent et al. 2016; Cooijmans et al. 2017"

    def __init__(
        self,
        num_features: int,
        *,
        statistics: str = "sequence",
        gain: float = 1.0,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        max_steps: int = 100,
        tail: str = "last",
        min_rows: int = 2,
        bias: bool = False,
        **kw: Any,
    ) -> None:
        super().__init__(num_features, gain=gain, bias=bias, **kw)
        if statistics not in SCOPES:
            raise ValueError(f"statistics must be one of {', '.join(SCOPES)}, got {statistics!r}")
        if min_rows < 2:
            raise ValueError(f"min_rows must be at least 2, since one row has no variance, got {min_rows}")
        if momentum is not None and not 0 < momentum <= 1:
            raise ValueError(f"momentum must be in (0, 1] or None, got {momentum}")
        if not eps > 0:
            raise ValueError(f"eps must be positive, got {eps}")
        self.scope, self.eps, self.momentum, self.min_rows = statistics, eps, momentum, min_rows
        self.per_step = statistics == "timestep"
        self.stats = StepStatistics(num_features, max_steps if self.per_step else None, tail, **kw)

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Normalize rows x (B_t, F) of step `t`; in training, move that step's running averages."""
        rows, stats = at_least_float32(x), self.stats
        gain, bias = self.gain.to(rows.dtype), None if self.bias is None else self.bias.to(rows.dtype)
        slot = stats.slot(t)
        estimating = stats.accumulator is not None
        if estimating and slot is not None:
            assert stats.accumulator is not None
            stats.accumulator.add(slot, rows)
        if (self.training or estimating or stats.source == "batch") and rows.shape[0] >= self.min_rows:
            mean = var = None
            momentum = 0.0
            if self.training and slot is not None:
                mean, var = stats.running_mean[slot], stats.running_var[slot]
                if _in_backward():  # checkpointing wants the same graph again, but the batch has been counted
                    mean, var = mean.clone(), var.clone()
                else:
                    stats.num_rows[slot] += rows.shape[0]
                    momentum = self._momentum(rows.shape[0], slot)
            y = F.batch_norm(rows, mean, var, gain, bias, True, momentum, self.eps)
        else:
            mean, var = stats.recall(t)
            y = F.batch_norm(rows, mean.to(rows.dtype), var.to(rows.dtype), gain, bias, False, 0.0, self.eps)
        return y.to(x.dtype)

    def sequence(self, x: Tensor, batch_sizes: list[int]) -> Tensor:
        """Normalize all N rows: at once for "sequence", otherwise step by step."""
        return self(x) if self.scope == "sequence" else super().sequence(x, batch_sizes)

    def forbids(self, place: str) -> str | None:
        """Sequence-wise statistics need the rows of all steps at once, which exist at the vertical places only."""
        if self.scope == "sequence" and place in ("hidden", "cell"):
            return 'statistics="sequence" needs the rows of all steps at once; use "shared" or "timestep" there'
        return None

    def _momentum(self, rows: int, slot: int) -> float:
        return rows / int(self.stats.num_rows[slot]) if self.momentum is None else self.momentum

    def extra_repr(self) -> str:
        """Everything that is not visible in the parameters."""
        return f"{super().extra_repr()}, statistics={self.scope}, momentum={self.momentum}, min_rows={self.min_rows}"
