"""Mean-only batch normalization, the companion of weight normalization."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from .base import in_backward
from .batch_statistics import moments
from .synchronized import SynchronizedNormalizer


class MeanOnlyBatchNorm(SynchronizedNormalizer):
    """Mean-only batch normalization: y = x - μ (+ b), with μ over rows (B_t, F), feature by feature.

    The scale is left to weight normalization, whose g it would duplicate, so there is no gain. The gradient is centred
    likewise, ∂x = ∂y - mean(∂y). For a sum of products with normalized weights, t = W_ih x + W_hh h, it stands at
    `joint`, before the bias.

    `statistics`, T_max and few rows are as in `BatchNorm`: the running mean is per step for "timestep", and fewer than
    `min_rows` rows use it instead of their own (one row minus its own mean would be 0). The variance is stored, too, to
    be looked at; nothing uses it. Stored values: 2F, or 2·T_max·F for "timestep".

    Args:
        num_features: F.
        statistics: "sequence", "shared" or "timestep".
        momentum: weight of the newest batch in the running mean, 0.1; None: average over all rows seen.
        max_steps: T_max.
        tail: "last", "pool" or "error": see `StoredStatistics`.
        min_rows: fewest rows that are centred by their own mean.
        sync: in training on several processes, take means over the rows of all of them; see `BatchNorm`.
        bias: learn b.

    Raises:
        ValueError: an argument outside its range.

    Source: Salimans and Kingma, "Weight Normalization", NeurIPS 2016, section 4; momentum as in the authors' code.
    """

    name: ClassVar[str] = "mobn"
    summary: ClassVar[str] = "each feature minus its mean over the batch's active rows"
    source: ClassVar[str] = "Salimans & Kingma 2016"
    lacks: ClassVar[tuple[str, ...]] = ("gain", "eps")

    def __init__(self, num_features: int, **kw: Any) -> None:
        super().__init__(num_features, **kw)
        self.register_parameter("gain", None)

    def reset_parameters(self) -> None:
        """The bias to 0."""
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _train(self, rows: Tensor, t: int, slot: int | None) -> Tensor:
        if slot is not None and not in_backward():
            n = rows.shape[0]
            mean, var = moments(rows.detach())
            self._move(slot, mean, var * (n / (n - 1)), self._weight(slot, n), n)
        return self._by_batch(rows)

    def _by_batch(self, rows: Tensor) -> Tensor:
        return self._minus(rows, rows.mean(0))

    def _by_stored(self, rows: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return self._minus(rows, mean.to(rows.dtype))

    def _by_moments(self, rows: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return self._minus(rows, mean)

    def _minus(self, rows: Tensor, mean: Tensor) -> Tensor:
        return rows - mean if self.bias is None else rows - mean + self.bias.to(rows.dtype)

    def extra_repr(self) -> str:
        """Everything that is not visible in the parameters."""
        return super().extra_repr().replace("gain=1, ", "")
