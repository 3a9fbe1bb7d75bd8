"""Layer normalization: each row by its own mean and variance."""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from .base import Normalizer, at_least_float32
from .fusible import Fusible, RowStatistics


class LayerNorm(Normalizer):
    """Layer normalization: y = g ⊙ (x - μ) / √(σ² + ε) + b, with μ and σ² over the F features of a row.

    At the gates F = 4H: the four gates share one mean and one variance, as in the paper's code (equations 20-22); a
    normalization per gate is another model. Nothing is estimated from other rows, so training and evaluation are the
    same function, a batch of one row and a single step are ordinary cases, and raggedness cannot matter. Gain and bias
    are shared over time; no statistic is stored.

    Args:
        num_features: F.
        eps: ε inside the root; 1e-5 as in the authors' code.
        affine: learn g and b. Without, g stays at its initial value and b at 0: "LayerNorm-simple" of Xu et al., who
            find that gain and bias overfit.
        gain: initial g; the paper found 1 "significantly better" than 0.1.
        bias: learn b.

    Raises:
        ValueError: an argument outside its range.

    Sources: Ba, Kiros and Hinton, "Layer Normalization", arXiv 1607.06450, 2016; `affine`: after Xu, Sun, Zhang, Zhao
    and Lin, "Understanding and Improving Layer Normalization", NeurIPS 2019 (abstract).
    """

    name: ClassVar[str] = "ln"
    summary: ClassVar[str] = "each row by the mean and variance of its own features"
    source: ClassVar[str] = "Ba et al. 2016"

    def __init__(self, num_features: int, *, eps: float = 1e-5, affine: bool = True, **kw: Any) -> None:
        super().__init__(num_features, **kw)
        self.eps = eps
        if not affine:
            self._fix_affine()

    def fusible(self) -> Fusible | None:
        """Rows, centered."""
        return RowStatistics(self.eps)

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Normalize each row of x (…, F) by itself; `t` does not matter."""
        rows = at_least_float32(x)
        bias = None if self.bias is None else self.bias.to(rows.dtype)
        y: Tensor = F.layer_norm(rows, (self.num_features,), self.gain.to(rows.dtype), bias, self.eps)
        return y.to(x.dtype)

    def sequence(self, x: Tensor, batch_sizes: list[int]) -> Tensor:
        """All N rows at once: rows do not see each other."""
        return self.forward(x)
