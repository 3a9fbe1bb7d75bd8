"""Local response normalization: each unit by the energy of its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from ..common.ranges import Range, at_least
from .base import Normalizer, at_least_float32


class LocalResponseNorm(Normalizer):
    """Local response normalization: y_i = g_i x_i / (k + α Σ_j x_j²)^β, j over the n units around i of the same row.

    It is `torch.nn.functional.local_response_norm`, with the units of a row as channels and zeros beyond its ends; for
    even n the window has one unit more on the left. In an LSTM the order of hidden units means nothing at first: it
    gets a meaning because neighbours compete. AlexNet normalizes what leaves the nonlinearity, and so does the preset
    `lrn`, at `output`. At the gates (F = 4H) the windows at the borders would reach from one gate into the next.

    The constants are AlexNet's. For |h| ≤ 1 they make α Σ x² at most 5e-4 beside k = 2, that is, a scaling by
    k^-β = 0.59 to within 0.02 %; a larger α (`lrn:alpha=1`) lets neighbours inhibit each other in earnest.

    Rows do not see each other, so training and evaluation are the same function, one row and one step are ordinary
    cases, and raggedness cannot matter. The gain (which AlexNet has not; 1 at first) is shared over time; there is no
    bias, and no statistic is stored.

    Args:
        num_features: F.
        size: n.
        alpha: α, in front of the sum as in the paper. `torch.nn.LocalResponseNorm` has α/n there:
            its α is ours times n.
        beta: β.
        k: added to the sum; torch's own default is 1.
        gain: initial g.

    Raises:
        ValueError: size below 1, or alpha, beta or k outside its range.

    Source: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks",
    NeurIPS 2012, section 3.3.
    """

    name: ClassVar[str] = "lrn"
    summary: ClassVar[str] = "each unit by the energy of its neighbours in the row"
    source: ClassVar[str] = "Krizhevsky et al. 2012"
    lacks: ClassVar[tuple[str, ...]] = ("bias",)
    ranges: ClassVar[Mapping[str, Range]] = {
        "size": at_least(1, 1_000_000),
        "alpha": at_least(0),
        "beta": at_least(0),
        "k": at_least(0, ends="(]", why="so that a row of zeros has a value"),
    }

    def __init__(
        self,
        num_features: int,
        *,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 2.0,
        **kw: Any,
    ) -> None:
        super().__init__(num_features, **kw)
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Normalize each row of x (B_t, F) by itself; `t` does not matter."""
        rows = at_least_float32(x)
        # torch takes the mean of the squares where the paper takes their sum, and wants a dimension after the channels
        y = F.local_response_norm(rows.unsqueeze(2), self.size, self.alpha * self.size, self.beta, self.k).squeeze(2)
        return (self.gain.to(rows.dtype) * y).to(x.dtype)

    def sequence(self, x: Tensor, batch_sizes: list[int]) -> Tensor:
        """All N rows at once: rows do not see each other."""
        return self.forward(x)

    def extra_repr(self) -> str:
        """Features, gain and the four constants."""
        return f"{super().extra_repr()}, size={self.size}, alpha={self.alpha:g}, beta={self.beta:g}, k={self.k:g}"
