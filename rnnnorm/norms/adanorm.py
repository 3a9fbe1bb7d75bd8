"""Adaptive normalization: layer normalization whose gain is computed from the normalized row."""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from .base import Normalizer, at_least_float32


class AdaNorm(Normalizer):
    """AdaNorm: y = C (1 - k x̂) ⊙ x̂ with x̂ = (x - μ) / √(σ² + ε), μ and σ² over the F features of a row.

    The factor C (1 - k x̂) is a constant in the backward pass of training: it scales gradients by feature and is
    not differentiated itself; in evaluation the gradient is the derivative. Nothing is learned, nothing is
    estimated from other rows, so training and evaluation are the same function, one row and one step are ordinary
    cases, and raggedness cannot matter. No statistic is stored.

    Args:
        num_features: F.
        eps: ε inside the root.
        k: how much large features are damped; 1/10 as in the paper.
        gain: C, a constant; 1 as in the paper.

    Raises:
        ValueError: an argument outside its range.

    Source: after Xu, Sun, Zhang, Zhao and Lin, "Understanding and Improving Layer Normalization", NeurIPS 2019
    (abstract, authors' code).
    """

    name: ClassVar[str] = "adanorm"
    summary: ClassVar[str] = "layer normalization with the gain 1 - x̂/10, computed and not learned"
    source: ClassVar[str] = "Xu et al. 2019"
    exact_gradient = False
    lacks: ClassVar[tuple[str, ...]] = ("bias",)

    def __init__(self, num_features: int, *, eps: float = 1e-5, k: float = 0.1, **kw: Any) -> None:
        super().__init__(num_features, **kw)
        self.eps, self.k = eps, k
        self._fix_affine()

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Normalize each row of x (…, F) by itself; `t` does not matter."""
        rows = at_least_float32(x)
        y = F.layer_norm(rows, (self.num_features,), eps=self.eps)
        factor = self.gain.to(rows.dtype) * (1 - self.k * (y.detach() if self.training else y))
        return (factor * y).to(x.dtype)

    def sequence(self, x: Tensor, batch_sizes: list[int]) -> Tensor:
        """All N rows at once: rows do not see each other."""
        return self.forward(x)

    def extra_repr(self) -> str:
        """Features, gain and k."""
        return f"{super().extra_repr()}, k={self.k:g}"
