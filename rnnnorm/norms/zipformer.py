"""BasicNorm and BiasNorm: the normalizers of speech recognition's Zipformer, which keep some of a row's length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..common.ranges import POSITIVE, Range
from .base import Normalizer, at_least_float32


class BasicNorm(Normalizer):
    """BasicNorm: y = x / √(mean(x²) + ε) with one learned ε = exp(e) for all features, the mean over the F of a row.

    ε is of the order of mean(x²), not a guard against division by 0: rows that are short stay short, so that the length
    of a row is not lost altogether. There is neither gain nor bias. Rows do not see each other, so training and
    evaluation are the same function, one row and one step are ordinary cases, and raggedness cannot matter. ε is shared
    over time; no statistic is stored.

    Args:
        num_features: F.
        eps: initial ε, 0.25 as in the authors' code.
        gain: a constant factor, 1 in the source.

    Raises:
        ValueError: eps is not positive.

    Source: code of icefall (k2-fsa), `BasicNorm` in its scaling.py, read in a copy; Povey et al.
    """

    name: ClassVar[str] = "basicnorm"
    summary: ClassVar[str] = "each row by √(mean square + ε) with a learned ε: short rows stay short"
    source: ClassVar[str] = "Povey et al. 2022 (icefall)"
    lacks: ClassVar[tuple[str, ...]] = ("bias",)

    def __init__(self, num_features: int, *, eps: float = 0.25, **kw: Any) -> None:
        super().__init__(num_features, **kw)
        self.initial_eps = float(eps)
        self._fix_affine()
        self.log_eps = nn.Parameter(torch.empty_like(self.gain[:1]))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set ε to its initial value."""
        super().reset_parameters()
        if hasattr(self, "log_eps"):  # the base class calls this before it exists
            nn.init.constant_(self.log_eps, math.log(self.initial_eps))

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Normalize each row of x (…, F) by itself; `t` does not matter."""
        rows = at_least_float32(x)
        scale = torch.rsqrt(rows.square().mean(-1, keepdim=True) + self.log_eps.to(rows.dtype).exp())
        return (self.gain.to(rows.dtype) * rows * scale).to(x.dtype)

    def sequence(self, x: Tensor, batch_sizes: list[int]) -> Tensor:
        """All N rows at once: rows do not see each other."""
        return self.forward(x)

    def extra_repr(self) -> str:
        """Features, gain and initial ε."""
        return f"{super().extra_repr()}, eps={self.initial_eps:g}"


class BiasNorm(Normalizer):
    """BiasNorm: y = e^s x / √(mean((x - v)²) + ε) with a learned v (F,) and one learned s, mean over the F of a row.

    v enters the length only, so that a feature with a large constant value can keep the information about a row's
    length. Rows do not see each other, so training and evaluation are the same function, one row and one step are
    ordinary cases, and raggedness cannot matter. v, 0 at the start, and s are shared over time; no statistic is stored.

    Args:
        num_features: F.
        eps: ε inside the root. The source has none, where v is drawn with standard deviation 1e-4; a row of zeros, such
            as W_hh h_0, needs one here.
        gain: initial e^s, one number for all features; 1, that of the other normalizers by row. (The source has e.)

    Raises:
        ValueError: an argument outside its range; a gain that is not positive.

    Source: after Yao et al., "Zipformer", ICLR 2024 (abstract; `BiasNorm` in icefall's scaling.py, a copy).
    """

    name: ClassVar[str] = "biasnorm"
    summary: ClassVar[str] = "each row by the root mean square of its distance from a learned vector"
    source: ClassVar[str] = "Yao et al. 2024"
    lacks: ClassVar[tuple[str, ...]] = ("bias",)
    ranges: ClassVar[Mapping[str, Range]] = {"gain": POSITIVE}

    def __init__(self, num_features: int, *, eps: float = 1e-5, gain: float = 1.0, **kw: Any) -> None:
        super().__init__(num_features, gain=gain, **kw)
        self.eps = eps
        self._fix_affine()
        self.offset = nn.Parameter(torch.empty_like(self.gain))
        self.log_scale = nn.Parameter(torch.empty_like(self.gain[:1]))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set v to 0 and s to its initial value."""
        nn.init.ones_(self.gain)  # e^s is the gain
        if hasattr(self, "log_scale"):  # the base class calls this before it exists
            nn.init.zeros_(self.offset)
            nn.init.constant_(self.log_scale, math.log(self.initial_gain))

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Normalize each row of x (…, F) by itself; `t` does not matter."""
        rows = at_least_float32(x)
        length = (rows - self.offset.to(rows.dtype)).square().mean(-1, keepdim=True)
        return (rows * torch.rsqrt(length + self.eps) * self.log_scale.to(rows.dtype).exp()).to(x.dtype)

    def sequence(self, x: Tensor, batch_sizes: list[int]) -> Tensor:
        """All N rows at once: rows do not see each other."""
        return self.forward(x)
