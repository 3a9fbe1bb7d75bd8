"""Initial weights of a recurrent layer: torch's own, or the recipe of the comparisons."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

INITS = ("torch", "orthogonal")


def initial_weights(shapes: dict[str, torch.Size], hidden_size: int, init: str) -> dict[str, Tensor]:
    """Draw the weights of one layer and direction, in float32 or more, on the CPU.

    They depend on torch's random state and the shapes alone, not on the normalizers, so that all norms can start from
    the same weights; and "torch" draws in `torch.nn.LSTM`'s order, so that the same seed gives the same numbers.

    Args:
        shapes: by name, in the order `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`, `weight_hr`, those that exist.
            A layer with a single bias gives both biases, too, and adds the results.
        hidden_size: H.
        init: "torch": uniform on ±1/√H. "orthogonal": W_hh orthogonal gate by gate (and W_hr, if any), W_ih
            Glorot-uniform gate by gate, biases 0 and forget bias 1 (Cooijmans et al. 2017; Jozefowicz et al. 2015).

    Raises:
        ValueError: unknown init.
    """
    check_init(init)
    bound = 1 / math.sqrt(hidden_size)
    weights: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        weight = torch.empty(shape)
        if init == "torch":
            nn.init.uniform_(weight, -bound, bound)
        elif name in ("weight_hh", "weight_hr"):
            for block in weight.chunk(4) if name == "weight_hh" else [weight]:
                nn.init.orthogonal_(block)
        elif name == "weight_ih":
            for block in weight.chunk(4):
                nn.init.xavier_uniform_(block)
        else:
            nn.init.zeros_(weight)
            if name == "bias_ih":
                weight[hidden_size : 2 * hidden_size] = 1
        weights[name] = weight
    return weights


def check_init(init: str) -> None:
    """Raise ValueError unless `init` is known."""
    if init not in INITS:
        raise ValueError(f"init must be one of {', '.join(INITS)}, got {init!r}")
