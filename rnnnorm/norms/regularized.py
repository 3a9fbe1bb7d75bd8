"""Regularized batch normalization: a penalty on the gap between what training and evaluation normalize by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..common.ranges import Range, at_least
from .auxiliary import AuxiliaryLoss
from .batch import BatchNorm


class RegularizedBatchNorm(BatchNorm):
    """Regularized batch normalization: `BatchNorm`, and a penalty on the gap of batch moments and running averages.

        y = g ⊙ (x - μ_B) / √(σ²_B + ε) + b
        P = λ_μ mean (μ_B - μ)² + λ_σ mean |σ²_B - σ²|

    μ_B and σ²_B are the moments of the B_t rows, μ and σ² the running averages before they move, which are constants;
    means are over the F features and, each row weighing alike, over all steps. With `relative` the gaps are those of
    μ / σ and σ in units of σ = √(σ² + ε), P = λ_μ mean ((μ_B - μ) / σ)² + λ_σ mean (1 - σ_B / σ)².

    P is no part of y: `rnnnorm.auxiliary_loss(model)` is the sum over all normalizers, to be added to the loss of the
    training step; `rnnnorm.tasks` adds it. So training draws the batches' moments towards those that evaluation uses.
    A slot that has seen no batch has no gap. Fewer than `min_rows` rows, which use stored statistics, have none either.
    Everything else, slots and stored values, is as in `BatchNorm`: gain and bias are shared over time, running averages
    are per step for "timestep".

    The authors add the sum over features, not its mean, to a loss that is a sum over tokens, not a mean; their λ of
    0.1 and 0.01 (pre-norm translation, 512 features, 4,096 tokens) are 0.0125 and 0.00125 here. They take the averages
    after they have moved. Both forms of the penalty are in their code, as "diff" and "reldiff".

    Args:
        num_features: F.
        penalty_mean: λ_μ.
        penalty_var: λ_σ.
        relative: measure gaps in units of the running deviation.
        **kw: those of `BatchNorm`.

    Raises:
        ValueError: an argument outside its range.

    Source: Wang, Wu and Huang, "Understanding the Failure of Batch Normalization for Transformers in NLP", NeurIPS
    2022.
    """

    name: ClassVar[str] = "rbn"
    summary: ClassVar[str] = "batch normalization with a penalty on the gap of batch moments and running averages"
    source: ClassVar[str] = "Wang et al. 2022"
    ranges: ClassVar[Mapping[str, Range]] = dict.fromkeys(("penalty_mean", "penalty_var"), at_least(0))
    lacks: ClassVar[tuple[str, ...]] = ("frozen", "ghost")
    penalizes: ClassVar[bool] = True

    def __init__(
        self,
        num_features: int,
        *,
        penalty_mean: float = 0.1,
        penalty_var: float = 0.01,
        relative: bool = False,
        **kw: Any,
    ) -> None:
        super().__init__(num_features, **kw)
        self.penalty_mean, self.penalty_var, self.relative = penalty_mean, penalty_var, relative
        self.auxiliary = AuxiliaryLoss()
        self._penalty: tuple[Tensor, int] | None = None

    def _train(self, rows: Tensor, t: int, slot: int | None) -> Tensor:
        var, mean = torch.var_mean(rows, 0, correction=0, keepdim=True)
        penalty = self._gap(t, [rows.shape[0]], mean, var)
        y = super()._train(rows, t, slot)
        self.auxiliary.keep(y, penalty, rows.shape[0])
        return y

    def _by_everyone(self, x: Tensor, start: int, sizes: list[int]) -> Tensor:
        y = super()._by_everyone(x, start, sizes)
        penalty, self._penalty = self._penalty, None
        if penalty is not None:
            self.auxiliary.keep(y, *penalty)
        return y

    def _notice(self, start: int, rows: list[int], mean: Tensor, var: Tensor) -> None:
        own = self._enough(rows)
        if self._learns() and own:
            self._penalty = self._gap(start, rows[:own], mean[:own], var[:own]), sum(rows[:own])

    def _gap(self, start: int, rows: list[int], mean: Tensor, var: Tensor) -> Tensor:
        """The sum of the penalty over the rows of consecutive steps, from their moments (steps, F), biased."""
        stats = self.stats
        slots = [stats.slot(t) for t in range(start, start + len(rows))]
        index = [-1 if slot is None else slot for slot in slots]

        def read() -> tuple[Tensor, ...]:
            known = (stats.num_rows[index] > 0).to(mean.dtype)
            return stats.running_mean[index].to(mean.dtype), stats.running_var[index].to(mean.dtype), known

        running_mean, running_var, known = self.first_pass(("gap", start, len(rows)), read)
        var = var * mean.new_tensor([n / (n - 1) for n in rows]).unsqueeze(1)  # running variances are unbiased
        difference = mean - running_mean
        if self.relative:
            scale = running_var + self.eps
            of_mean, of_var = difference.square() / scale, (1 - ((var + self.eps) / scale).sqrt()).square()
        else:
            of_mean, of_var = difference.square(), (var - running_var).abs()
        gap = (self.penalty_mean * of_mean + self.penalty_var * of_var).mean(1)
        return (gap * known * mean.new_tensor(rows)).sum()

    def extra_repr(self) -> str:
        """Everything that is not visible in the parameters."""
        penalty = f"penalty_mean={self.penalty_mean:g}, penalty_var={self.penalty_var:g}"
        return f"{super().extra_repr()}, {penalty}" + (", relative" if self.relative else "")
