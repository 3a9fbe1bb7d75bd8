"""L1 batch normalization: the mean absolute deviation in the place of the standard deviation."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from .base import in_backward
from .batch_statistics import BatchNormalizer

_GAUSSIAN = math.sqrt(math.pi / 2)  # standard deviation of a Gaussian over its mean absolute deviation


class L1BatchNorm(BatchNormalizer):
    """L1 batch normalization: y = g ⊙ (x - μ) / √(s² + ε) + b with s = √(π/2) · mean |x - μ|, over rows (B_t, F).

    The factor √(π/2) makes s the standard deviation where x is Gaussian, so that gains mean what they mean in
    `BatchNorm` (Hoffer et al.; Liao et al.'s streaming L1 normalizer has no factor: divide the gain by it). s² is
    stored where `BatchNorm` stores the variance, times n/(n - 1) likewise.

    `statistics`, T_max and few rows are as in `BatchNorm`: gain and bias are shared over time, running averages are per
    step for "timestep". Population statistics pool the batches' s² as if they were variances, since mean absolute
    deviations about a common mean would take a second pass. Stored values: 2F, or 2·T_max·F for "timestep".

    Args:
        num_features: F.
        statistics: "sequence", "shared" or "timestep".
        gain: initial g.
        eps: ε.
        momentum: weight of the newest batch in the running averages; None: average over all rows seen.
        max_steps: T_max.
        tail: "last", "pool" or "error": see `StoredStatistics`.
        min_rows: fewest rows that estimate a deviation.
        bias: learn b.

    Raises:
        ValueError: an argument outside its range.

    Sources: Hoffer et al., "Norm matters", NeurIPS 2018; Liao et al., "Streaming Normalization", 2016.
    """

    name: ClassVar[str] = "bn-l1"
    summary: ClassVar[str] = "each feature by its mean and mean absolute deviation over the batch's active rows"
    source: ClassVar[str] = "Hoffer et al. 2018; Liao et al. 2016"

    def _train(self, rows: Tensor, t: int, slot: int | None) -> Tensor:
        mean, square = _mean_and_square(rows)
        if slot is not None and not in_backward():
            n = rows.shape[0]
            self._move(slot, mean, square * (n / (n - 1)), self._weight(slot, n), n)
        return self._by_moments(rows, mean, square)

    def _by_batch(self, rows: Tensor) -> Tensor:
        return self._by_moments(rows, *_mean_and_square(rows))

    def _gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return _mean_and_square(rows.detach().double())


def _mean_and_square(rows: Tensor) -> tuple[Tensor, Tensor]:
    """μ and s² (F,)."""
    mean = rows.mean(0)
    return mean, ((rows - mean).abs().mean(0) * _GAUSSIAN).square()
