"""Group normalization: each row in groups of neighbouring features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.ranges import Range, at_least
from ..common.transforms import by_plain_operators
from .base import Normalizer, at_least_float32, by_blocks
from .fusible import Fusible, RowStatistics


class GroupNorm(Normalizer):
    """Group normalization: y = g ⊙ (x - μ) / √(σ² + ε) + b, with μ and σ² over each of G blocks of F/G features.

    It is `torch.nn.functional.group_norm` on rows. The gates stand one after the other in the F = 4H features of a row,
    so **G = 4 at the gates is layer normalization per gate**: each gate has its own mean and variance over its H units,
    where `ln` gives one pair to all four. G = 1 is `ln` itself. At `cell` and `output` F = H, and G = 1 normalizes the
    whole row there. Hou et al. normalize per gate W_ih x and W_hh h, and not the cell: the preset `ln-per-gate`.
    The LSTM of Cerebras' Online Normalization code normalizes their sum and carries the normalized cell on:
    `Norm(joint="gn:groups=4", cell="ln", carried=True)`.

    Rows do not see each other, so training and evaluation are the same function, one row and one step are ordinary
    cases, and raggedness cannot matter. Gain and bias are shared over time; no statistic is stored.

    Args:
        num_features: F, divisible by G; a single feature is one group.
        groups: G. Wu and He use 32 groups of channels. Where nothing is said, a recurrent layer gives one group per
            block of H features: 4 at an LSTM's gates, 3 at a GRU's, 1 in an RNN and at the cell.
        eps: ε inside the root, 1e-5 as in the paper.
        gain: initial g, 1 as in the paper. Hou et al. use 1 for language models and 0.1 for MNIST.
        bias: learn b.

    Raises:
        ValueError: F is not divisible by G.

    Sources: Wu and He, "Group Normalization", ECCV 2018; Hou et al., "Normalization Helps Training of Quantized LSTM",
    NeurIPS 2019.
    """

    name: ClassVar[str] = "gn"
    per_gate = True
    summary: ClassVar[str] = (
        "each row in groups of features, by the mean and variance of the group; 4 at the gates: per gate"
    )
    source: ClassVar[str] = "Wu & He 2018"
    ranges: ClassVar[Mapping[str, Range]] = {"groups": at_least(1)}

    def __init__(self, num_features: int, *, groups: int = 4, eps: float = 1e-5, **kw: Any) -> None:
        super().__init__(num_features, **kw)
        if num_features > 1 and num_features % groups:
            raise ValueError(f"{num_features} features cannot be divided into groups={groups} groups of equal size")
        self.groups, self.eps = groups if num_features > 1 else 1, eps

    def fusible(self) -> Fusible | None:
        """Rows in groups, centered."""
        return RowStatistics(self.eps, self.groups)

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Normalize each row of x (B_t, F) by itself; `t` does not matter."""
        rows = at_least_float32(x)
        bias = None if self.bias is None else self.bias.to(rows.dtype)
        if by_plain_operators():
            size = (self.num_features // self.groups,)
            y = by_blocks(rows, *size, lambda block: F.layer_norm(block, size, eps=self.eps)) * self.gain.to(rows.dtype)
            return (y if bias is None else y + bias).to(x.dtype)
        return torch.group_norm(rows, self.groups, self.gain.to(rows.dtype), bias, self.eps).to(x.dtype)

    def sequence(self, x: Tensor, batch_sizes: list[int]) -> Tensor:
        """All N rows at once: rows do not see each other."""
        return self.forward(x)

    def extra_repr(self) -> str:
        """Features, gain and groups."""
        return f"{super().extra_repr()}, groups={self.groups}"
