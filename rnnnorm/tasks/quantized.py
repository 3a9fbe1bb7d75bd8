"""Binary and ternary recurrent weights, trained by straight-through gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rnnnorm.common.ranges import one_of
from rnnnorm.nn.recurrent import Recurrent


def binary(W: Tensor) -> Tensor:
    """Signs, -1 or 1, of the weights of one gate (BinaryConnect; Courbariaux et al. 2015); 0 counts as positive."""
    return torch.where(W < 0, -1.0, 1.0).to(W)


def ternary(W: Tensor) -> Tensor:
    """Signs of the weights of one gate, and 0 up to 0.7 of their mean magnitude (Li et al. 2016)."""
    return torch.where(W.abs() > 0.7 * W.abs().mean(), W.sign(), 0.0).to(W)


QUANTIZERS: Mapping[str, Callable[[Tensor], Tensor]] = {"binary": binary, "ternary": ternary}


class Quantized(nn.Module):
    """Weights Q(W) of few values in the forward pass, whose gradient reaches W as if Q were the identity.

    Q is applied gate by gate to W (gates · H, ·), without a scale: norms have gains of their own (Hou et al. 2019). A
    weight normalizer gets Q(v): W = g · Q(v) / ‖Q(v)‖.

    Args:
        kind: "binary" or "ternary".
        gates: gates that W has.
        inner: module that composes W from (g, v); None: there is W itself.
    """

    def __init__(self, kind: str, gates: int, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.kind, self.gates, self.inner = kind, gates, inner

    def forward(self, *parts: Tensor) -> Tensor:
        """Compose W from what is learned, the last of which is quantized."""
        *gains, learned = parts
        with torch.no_grad():
            values = torch.cat([QUANTIZERS[self.kind](block) for block in learned.chunk(self.gates)])
        # The difference is exactly 0, so the values are exact; its gradient is that of `learned`.
        quantized = values + (learned - learned.detach())
        composed: Tensor = quantized if self.inner is None else self.inner(*gains, quantized)
        return composed

    def right_inverse(self, W: Tensor) -> Any:
        """What is to be learned such that it is W where nothing is quantized."""
        return W if self.inner is None else self.inner.right_inverse(W)  # type: ignore[operator]

    def extra_repr(self) -> str:
        """Its kind."""
        return self.kind


def quantize_weights(network: Recurrent[Any], kind: str) -> None:
    """Quantize W_ih and W_hh of all layers and directions; biases, gains and all else stay as they are.

    Reading `weight_ih_l0` gives the quantized weight; the full-precision one is a parameter of the network under
    `parametrizations`, starts from the weights as they were drawn, and is what the optimizer moves.

    Args:
        network: an `rnnnorm.LSTM`, `GRU` or `RNN`.
        kind: "binary" (BinaryConnect: ±1) or "ternary" (TernaryConnect: ±1 and 0).

    Raises:
        ValueError: another kind, or weights that start from data, which are not those that are quantized.

    Source: Hou et al., "Normalization Helps Training of Quantized LSTM", NeurIPS 2019.
    """
    one_of(*QUANTIZERS, kinds=(str,)).check("quantize", kind)
    if network.needs_data:
        raise ValueError(f"norm {network.norm.name!r} starts from data, and quantized weights do not: use init=norm")
    for suffix in network.all_suffixes():
        for name in ("weight_ih" + suffix, "weight_hh" + suffix):
            if parametrize.is_parametrized(network, name):
                composed: Any = network.parametrizations[name]  # type: ignore[index]
                composed[0] = Quantized(kind, network.cell.gates, composed[0])
            else:
                # Checked by torch otherwise: assigning a weight and reading it gives another one.
                parametrize.register_parametrization(network, name, Quantized(kind, network.cell.gates), unsafe=True)
