"""Dynamic tanh and Derf: learned squashings instead of a normalization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..common.ranges import POSITIVE, Range
from .base import Normalizer, at_least_float32
from .fusible import Fusible, Squash


class DynamicTanh(Normalizer):
    """Dynamic tanh (DyT): y = g ⊙ tanh(α x) + b, with one learned number α for all features.

    Nothing is estimated from any row: it works element by element, so training and evaluation are the same function,
    one row and one step are ordinary cases, and raggedness cannot matter. α, gain and bias are shared over time; no
    statistic is stored. In front of the σ and tanh of a gate it bounds each pre-activation to ±g, where layer
    normalization bounds the length of a whole row.

    Args:
        num_features: F.
        alpha: initial α, 0.5 as in the paper (its LLaMA recipes use other values, by width and place).
        gain: initial g, 1 as in the paper.
        bias: learn b.

    Raises:
        ValueError: alpha is not positive.

    Source: Zhu, Chen, He, LeCun and Liu, "Transformers without Normalization", CVPR 2025.
    """

    name: ClassVar[str] = "dyt"
    summary: ClassVar[str] = "g ⊙ tanh(αx) + b with a learned α: nothing is measured"
    source: ClassVar[str] = "Zhu et al. 2025"
    ranges: ClassVar[Mapping[str, Range]] = {"alpha": POSITIVE}

    def __init__(
        self, num_features: int, *, alpha: float = 0.5, gain: float = 1.0, bias: bool = False, **kw: Any
    ) -> None:
        super().__init__(num_features, gain=gain, bias=bias, **kw)
        self.initial_alpha = float(alpha)
        self.alpha = nn.Parameter(torch.full((1,), self.initial_alpha, **kw))

    def reset_parameters(self) -> None:
        """Set α, gain and bias to their initial values."""
        super().reset_parameters()
        if hasattr(self, "alpha"):  # the base class calls this before α exists
            nn.init.constant_(self.alpha, self.initial_alpha)

    def fusible(self) -> Fusible | None:
        """Element by element."""
        return Squash()

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Squash x (…, F) element by element; `t` does not matter."""
        rows = at_least_float32(x)
        y = self.gain.to(rows.dtype) * self._squash(rows)
        return (y if self.bias is None else y + self.bias.to(rows.dtype)).to(x.dtype)

    def _squash(self, rows: Tensor) -> Tensor:
        return torch.tanh(self.alpha.to(rows.dtype) * rows)

    def sequence(self, x: Tensor, batch_sizes: list[int]) -> Tensor:
        """All N rows at once: elements do not see each other."""
        return self.forward(x)

    def extra_repr(self) -> str:
        """Features, gain and initial α."""
        return f"{super().extra_repr()}, alpha={self.initial_alpha:g}"


class DynamicErf(DynamicTanh):
    """Dynamic erf (Derf): y = g ⊙ erf(α x + s) + b, with one learned α and one learned shift s for all features.

    As `DynamicTanh`, with the error function, which is steeper, and a shift.

    Args:
        num_features: F.
        alpha: initial α, 0.5.
        gain: initial g, 1.
        bias: learn b.

    Raises:
        ValueError: alpha is not positive.

    Source: after Chen, Lu, Zhu, Sun and Liu, "Stronger Normalization-Free Transformers", 2025 (abstract, code).
    """

    name: ClassVar[str] = "derf"
    summary: ClassVar[str] = "g ⊙ erf(αx + s) + b with learned α and s: nothing is measured"
    source: ClassVar[str] = "Chen et al. 2025"

    def __init__(self, num_features: int, **kw: Any) -> None:
        super().__init__(num_features, **kw)
        self.shift = nn.Parameter(torch.zeros_like(self.alpha))

    def reset_parameters(self) -> None:
        """Set α, s, gain and bias to their initial values."""
        super().reset_parameters()
        if hasattr(self, "shift"):
            nn.init.zeros_(self.shift)

    def _squash(self, rows: Tensor) -> Tensor:
        return torch.erf(self.alpha.to(rows.dtype) * rows + self.shift.to(rows.dtype))
