"""Weight normalization: each weight row by its own length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..common.ranges import Range, one_of
from ..common.transforms import by_plain_operators
from .base import WeightNormalizer


class WeightNorm(WeightNormalizer):
    """Weight normalization: W = g · v / ‖v‖, one length g per output row of W (4H, I) or (4H, H).

    It is `torch.nn.utils.parametrizations.weight_norm`, with its names, on `weight_ih` and `weight_hh`: the composed
    weight equals the plain one at the start (g = ‖v‖), and gradient descent then moves length and direction separately.
    It does not look at activations, so there are no statistics, no dependence on time or batch, and one row is an
    ordinary case.

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
        reparametrize(module, weight, RowLengths())


def reparametrize(module: nn.Module, weight: str, by: nn.Module) -> None:
    """Let `by` compose `module.<weight>` from two parameters; those that older code has saved as `<weight>_g` and
    `<weight>_v` can be loaded.
    """
    parametrize.register_parametrization(module, weight, by, unsafe=True)
    module.register_load_state_dict_pre_hook(_OldNames(weight))  # type: ignore[no-untyped-call]


class _OldNames:
    """Renames what `torch.nn.utils.weight_norm` has saved; unlike the hook of torch's parametrization, it pickles."""

    def __init__(self, weight: str) -> None:
        self.weight = weight

    def __call__(self, module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        for old, new in (("_g", "original0"), ("_v", "original1")):
            if prefix + self.weight + old in state_dict:
                renamed = f"{prefix}parametrizations.{self.weight}.{new}"
                state_dict[renamed] = state_dict.pop(prefix + self.weight + old)


class RowLengths(nn.Module):
    """W = g · v / ‖v‖ from ATen's differentiable norm, in the place of torch's fused one.

    The backward pass of the fused `torch._weight_norm` takes ‖v‖ for a constant, so that its second derivatives are
    wrong (torch 2.13; first derivatives agree).
    """

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """Compose g (outputs, 1) and v (outputs, inputs)."""
        plain = by_plain_operators()  # ONNX knows no norm_except_dim
        lengths = torch.linalg.vector_norm(v, 2, 1, keepdim=True) if plain else torch.norm_except_dim(v, 2, 0)
        return v * (g / lengths)

    def right_inverse(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Take a weight apart: g = ‖v‖, v = W."""
        return torch.norm_except_dim(W, 2, 0), W
