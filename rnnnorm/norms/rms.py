"""Root mean square normalization: each row by its own length."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.transforms import by_plain_operators
from .base import Normalizer, at_least_float32, by_blocks
from .fusible import Fusible, RowStatistics


class RMSNorm(Normalizer):
    """RMSNorm: y = g ⊙ x / √(mean(x²) + ε), with the mean over the F features of a row; `torch.nn.functional.rms_norm`.

    Layer normalization without the recentering: rescaling a whole weight matrix changes nothing, adding a constant to
    all of its rows does. Rows do not see each other, so training and evaluation are the same function, one row and one
    step are ordinary cases, and raggedness cannot matter. At the gates (F = 4H) the four gates share one length. The
    gain is shared over time; there is no bias, as in the paper, and no statistic is stored.

    Args:
        num_features: F.
        eps: ε inside the root. 1e-5 is that of the authors' Theano code; their PyTorch file adds 1e-8 outside the root.
        gain: initial g, 1 as in the paper.

    Raises:
        ValueError: an argument outside its range.

    Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019.
    """

    name: ClassVar[str] = "rms"
    summary: ClassVar[str] = "each row by the root of its mean square"
    source: ClassVar[str] = "Zhang & Sennrich 2019"
    lacks: ClassVar[tuple[str, ...]] = ("bias",)

    def __init__(self, num_features: int, *, eps: float = 1e-5, **kw: Any) -> None:
        super().__init__(num_features, **kw)
        self.eps = eps

    def fusible(self) -> Fusible | None:
        """Rows, not centered."""
        return RowStatistics(self.eps, centered=False)

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Normalize each row of x (…, F) by itself; `t` does not matter."""
        rows = at_least_float32(x)
        if by_plain_operators():
            return (block_rms_norm(rows, self.num_features, self.eps) * self.gain.to(rows.dtype)).to(x.dtype)
        return F.rms_norm(rows, (self.num_features,), self.gain.to(rows.dtype), self.eps).to(x.dtype)

    def sequence(self, x: Tensor, batch_sizes: list[int]) -> Tensor:
        """All N rows at once: rows do not see each other."""
        return self.forward(x)

    def extra_repr(self) -> str:
        """Features, gain and ε."""
        return f"{super().extra_repr()}, eps={self.eps:g}"


def block_rms_norm(x: Tensor, size: int, eps: float) -> Tensor:
    """Rows x / √(mean(x²) + ε) over each block of `size` neighbouring features of x (B_t, F)."""
    if by_plain_operators():  # ONNX knows no operator for it
        return by_blocks(x, size, lambda block: block * torch.rsqrt(block.square().mean(-1, keepdim=True) + eps))
    return F.rms_norm(x.reshape(x.shape[0], -1, size), (size,), eps=eps).view_as(x)
