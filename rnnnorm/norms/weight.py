"""Weight normalization: each weight row by its own length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ..ranges import Range, one_of
from .base import WeightNormalizer


class WeightNorm(WeightNormalizer):
    """Weight normalization: W = g · v / ‖v‖, one length g per output row of W (4H, I) or (4H, H).

    It is `torch.nn.utils.parametrizations.weight_norm` on `weight_ih` and `weight_hh`: the composed weight equals the
    plain one at the start (g = ‖v‖), and gradient descent then moves length and direction separately. It does not look
    at activations, so there are no statistics, no dependence on time or batch, and one row is an ordinary case.

    Args:
        init: "norm" keeps the initial weights (g = ‖v‖); "data" sets g = 1/σ and b = -μ/σ from the first batch
            (Salimans & Kingma, section 3): call `LSTM.initialize_from_data(batch)` before training.

    Raises:
        ValueError: another `init`.

    Source: Salimans and Kingma, "Weight Normalization", NeurIPS 2016.
    """

    name: ClassVar[str] = "wn"
    summary: ClassVar[str] = "each weight row by its length: W = g·v/‖v‖"
    source: ClassVar[str] = "Salimans & Kingma 2016"
    ranges: ClassVar[Mapping[str, Range]] = {"init": one_of("norm", "data")}

    def __init__(self, *, init: str = "norm") -> None:
        self.init = init

    def register(self, module: nn.Module, weight: str) -> None:
        """Reparametrize `module.<weight>` as g · v / ‖v‖, row by row."""
        weight_norm(module, weight, dim=0)
        parametrizations: Any = module.parametrizations
        parametrizations[weight][0] = RowLengths()


class RowLengths(nn.Module):
    """W = g · v / ‖v‖ from ATen's differentiable norm, in the place of torch's fused one.

    The backward pass of the fused `torch._weight_norm` takes ‖v‖ for a constant, so that its second derivatives are
    wrong (torch 2.13; first derivatives agree). The rest of torch's parametrization stays as it is.
    """

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """Compose g (outputs, 1) and v (outputs, inputs)."""
        return v * (g / torch.norm_except_dim(v, 2, 0))

    def right_inverse(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Take a weight apart: g = ‖v‖, v = W."""
        return torch.norm_except_dim(W, 2, 0), W
