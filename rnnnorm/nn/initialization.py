"""Initial weights of a recurrent layer: torch's own, or the recipes of the comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..equations import Equations

INITS = ("torch", "orthogonal", "chrono")


def initial_weights(
    shapes: Mapping[str, tuple[int, ...]], hidden_size: int, init: str, cell: Equations, max_steps: int
) -> dict[str, Tensor]:
    """Draw the weights of one layer and direction, in float32 or more, on the CPU.

    They depend on torch's random state and the shapes alone, not on the normalizers, so that all norms can start from
    the same weights; and "torch" draws in torch's order, so that the same seed gives the same numbers.

    Args:
        shapes: by name, in the order `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`, `weight_hr`, `weight_ci`,
            `weight_cf`, `weight_co`, those that exist. A layer with a single bias gives both biases, too, and adds the
            results.
        hidden_size: H.
        init: "torch": uniform on ±1/√H. "orthogonal": W_hh orthogonal gate by gate (and W_hr, if any), W_ih
            Glorot-uniform gate by gate, biases and peepholes 0, and 1 at an LSTM's forget gate (Cooijmans et al. 2017;
            Jozefowicz et al. 2015). "chrono": the same, but b_f = log(U[1, T_max - 1]) and b_i = -b_f, so that
            the units' memories span up to T_max steps (Tallec & Ollivier 2018); in a GRU b_z = log(U[1, T_max - 1]),
            since z keeps the state there. The vector u of an IndRNN is uniform on [0, 1] (Li et al. 2018).
        cell: which gates there are.
        max_steps: T_max of "chrono".

    Raises:
        ValueError: unknown init.
    """
    bound = 1 / math.sqrt(hidden_size)
    weights: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        weight = torch.empty(shape)
        if name == "weight_hh" and cell.diagonal:
            nn.init.uniform_(weight)
        elif init == "torch":
            nn.init.uniform_(weight, -bound, bound)
        elif name in ("weight_hh", "weight_hr"):
            for block in weight.chunk(cell.gates) if name == "weight_hh" else [weight]:
                nn.init.orthogonal_(block)
        elif name == "weight_ih":
            for block in weight.chunk(cell.gates):
                nn.init.xavier_uniform_(block)
        else:
            nn.init.zeros_(weight)
        weights[name] = weight
    if init != "torch" and "bias_ih" in weights and cell.forget is not None:
        blocks = weights["bias_ih"].chunk(cell.gates)
        if init == "orthogonal":
            blocks[cell.forget].fill_(cell.forget_bias)
        else:
            blocks[cell.forget].uniform_(1, max_steps - 1).log_()
            if cell.write is not None:
                blocks[cell.write].copy_(-blocks[cell.forget])
    return weights


def check_init(init: str, cell: Equations, bias: bool, max_steps: int) -> None:
    """Raise ValueError unless the cell has what `init` sets."""
    if init == "chrono":
        if cell.forget is None:
            raise ValueError(f"init='chrono' sets the biases of the gates that keep the state; a {cell.name} has none")
        if not bias:
            raise ValueError("init='chrono' sets biases, but bias=False")
        if max_steps < 3:
            raise ValueError(f"init='chrono' draws memories from 1 to max_steps - 1 steps, got max_steps={max_steps}")
