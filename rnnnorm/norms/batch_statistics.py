"""Base of the batch-normalization family: scopes, slots of stored statistics, few rows, evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.ranges import Range, at_least, between, one_of
from ..common.transforms import by_plain_operators
from .base import Normalizer, at_least_float32
from .buffers import FirstPass
from .statistics import StoredStatistics

SCOPES = ("sequence", "shared", "timestep")
SEQUENCE_WISE_PLACES = ("input", "emitted", "between")
"""Places that normalize no state that is fed back, so that the rows of all steps exist at once."""
ROUNDING = 16
"""Variance of rounding errors beside ε, in units of a type's precision u."""
_NEVER = 2**63


class BatchNormalizer(Normalizer):
    """Base of the family of batch normalization; `BatchNorm` explains the options.

    With at least `min_rows` rows, a training batch goes through `_train`; in evaluation the stored statistics are used
    (`_by_stored`), or the batch's own (`_by_batch`) where `rnnnorm.statistics` says so. Fewer rows always use the
    stored ones and update nothing.

    Where stored statistics take part in training, `first_pass` keeps what the last training batch has read of them, 2F
    values per step, outside the state dict: activation checkpointing reads it again.

    Args:
        num_features: F.
        statistics: "sequence", "shared" or "timestep".
        gain: initial g.
        eps: ε.
        momentum: weight of the newest batch in the running averages; None: average over all rows seen.
        max_steps: T_max.
        tail: "last", "pool" or "error": see `StoredStatistics`.
        min_rows: fewest rows that estimate moments.
        bias: learn b.
        stored: further options of `StoredStatistics`; those that change how averages move are for normalizers that
            leave this to `StoredStatistics.move_steps`.

    Raises:
        ValueError: an argument outside its range.
    """

    ranges: ClassVar[Mapping[str, Range]] = {
        **StoredStatistics.ranges,
        "statistics": one_of(*SCOPES),
        "momentum": between(0, 1, "(]"),
        "min_rows": at_least(2, why="since one row has no variance"),
    }

    sync: bool | None = None
    """Whether moments may be taken over several processes, as `SynchronizedNormalizer` takes them."""

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
        stored: Mapping[str, Any] | None = None,
        **kw: Any,
    ) -> None:
        super().__init__(num_features, gain=gain, bias=bias, **kw)
        self.scope, self.eps, self.momentum, self.min_rows = statistics, eps, momentum, min_rows
        self.per_step, self.sequence_wise = statistics == "timestep", statistics == "sequence"
        self.stats = StoredStatistics(num_features, max_steps if self.per_step else None, tail, **(stored or {}), **kw)
        self.first_pass = FirstPass()
        self._last_step = _NEVER

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Normalize rows x (B_t, F) of step `t`; in training, move that step's stored statistics."""
        if self.sync and self.synchronizes():
            return self._by_everyone(x, t, [x.shape[0]])
        rows, stats = at_least_float32(x), self.stats
        slot, accumulator = stats.slot(t), stats.accumulator
        gathered = None if accumulator is None else self._gather(rows)
        if accumulator is not None and gathered is not None and slot is not None:
            accumulator.add_moments(slot, rows.shape[0], *gathered)
        asked = self._learns() or accumulator is not None or stats.source == "batch"
        enough = asked and rows.shape[0] >= stats.fewest(self.min_rows)  # else a graph may leave it open
        if enough and self._learns():
            y = self._train(rows, t, slot)
        elif enough and accumulator is not None and gathered is not None and accumulator.serves:
            # By the very numbers that are stored: where σ² ≪ ε, rounding the mean in another way is an error that
            # γ/√ε multiplies at every place of every such slot.
            y = self._by_stored(rows, *(moment.to(stats.running_mean.dtype) for moment in gathered))
        elif enough:
            y = self._by_batch(rows)
        else:
            y = self._by_stored(rows, *stats.recall(t))
        return y.to(x.dtype)

    def sequence(self, x: Tensor, batch_sizes: list[int]) -> Tensor:
        """Normalize all N rows: at once for "sequence", otherwise step by step."""
        if self.sync and self.synchronizes():
            return self._by_everyone(x, 0, [x.shape[0]] if self.sequence_wise else self._all_steps(batch_sizes))
        return self(x) if self.sequence_wise else super().sequence(x, batch_sizes)

    def synchronizes(self) -> bool:
        """Whether moments are taken over the rows of several processes now."""
        return False

    def _all_steps(self, batch_sizes: list[int]) -> list[int]:
        """Rows of each step, with zeros for steps that only other processes have."""
        return batch_sizes

    def _by_everyone(self, x: Tensor, start: int, sizes: list[int]) -> Tensor:
        """Normalize the rows of consecutive steps by moments over all processes."""
        raise TypeError(f"{type(self).__name__} must define _by_everyone(x, start, sizes)")

    def forbids(self, place: str) -> str | None:
        """Sequence-wise statistics need the rows of all steps at once, which exist at the vertical places only."""
        if self.sequence_wise and place not in SEQUENCE_WISE_PLACES:
            return 'statistics="sequence" needs the rows of all steps at once; use "shared" or "timestep" there'
        return None

    def _learns(self) -> bool:
        """Whether batches are normalized as in training, and move statistics."""
        return self.training

    def _train(self, rows: Tensor, t: int, slot: int | None) -> Tensor:
        """Normalize rows of a training batch and move the statistics of `slot`, or of none."""
        raise TypeError(f"{type(self).__name__} must define _train(rows, t, slot)")

    def _by_batch(self, rows: Tensor) -> Tensor:
        """Normalize by the rows' own moments."""
        gain, bias = self._affine(rows)
        return F.batch_norm(rows, None, None, gain, bias, True, 0.0, self.eps)

    def _by_stored(self, rows: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """Normalize by stored moments (F,), constants."""
        gain, bias = self._affine(rows)
        if by_plain_operators():  # for batch_norm, ONNX's exporter must know F, and does not everywhere
            y = (rows - mean.to(rows.dtype)) / (var.to(rows.dtype) + self.eps).sqrt() * gain
            return y if bias is None else y + bias
        return F.batch_norm(rows, mean.to(rows.dtype), var.to(rows.dtype), gain, bias, False, 0.0, self.eps)

    def _by_moments(self, rows: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """Normalize by moments (F,) that are differentiated, too."""
        gain, bias = self._affine(rows)
        y = (rows - mean) * (self._roots(var) * gain)
        return y if bias is None else y + bias

    def _roots(self, var: Tensor) -> Tensor:
        """1/√(σ² + ε), by which differences from the mean are multiplied."""
        return torch.rsqrt(var + self.eps)

    def _gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance (F,) of rows for the estimation of population statistics, in float64."""
        return moments(rows.detach().double())

    def _affine(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.gain.to(rows.dtype), None if self.bias is None else self.bias.to(rows.dtype)

    def _begins_batch(self, t: int) -> bool:
        """Whether another training batch begins with this step: it does not come after the last one."""
        begins, self._last_step = t <= self._last_step, t
        return begins

    def _weight(self, slot: int | None, n: int) -> Tensor | float:
        """Weight of n new rows in the averages of a slot."""
        if self.momentum is not None:
            return self.momentum
        stats = self.stats
        return n / (stats.num_rows[-1 if slot is None else slot] + n).to(stats.running_mean.dtype)

    def _weight_or_first(self, slot: int | None, n: int) -> Tensor:
        """Weight of n new rows, 1 for the first batch of a slot."""
        stats = self.stats
        known = (stats.num_rows[-1 if slot is None else slot] > 0).to(stats.running_mean.dtype)
        return 1 - known * (1 - self._weight(slot, n))

    @torch.no_grad()
    def _move(self, slot: int, mean: Tensor, var: Tensor, weight: Tensor | float, n: int) -> None:
        """Move a slot's averages towards moments (F,) of n rows."""
        stats = self.stats
        stats.running_mean[slot].lerp_(mean.detach().to(stats.running_mean.dtype), weight)
        stats.running_var[slot].lerp_(var.detach().to(stats.running_var.dtype), weight)
        stats.num_rows[slot] += n

    def extra_repr(self) -> str:
        """Everything that is not visible in the parameters."""
        return f"{super().extra_repr()}, statistics={self.scope}, momentum={self.momentum}, min_rows={self.min_rows}"


def rounding(dtype: torch.dtype, eps: float) -> float:
    """Variance up to which a feature is constant over a batch but for rounding: 16 u ε, u being the type's precision.

    Where all rows of a batch agree, their products with a matrix still differ by some units in the last place.
    """
    return ROUNDING * torch.finfo(dtype).eps * eps


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (F,) over rows (n, F), in two passes."""
    var, mean = torch.var_mean(rows, 0, correction=0)
    return mean, var
