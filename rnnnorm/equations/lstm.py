"""The LSTM."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..common.ranges import FLAG
from .base import Equations, Layer


class LSTMEquations(Equations):
    """One step of an LSTM, gates in torch's order i, f, g, o.

        a_t = N_joint(N_input(W_ih x_t) + N_hidden(W_hh h_{t-1})) + b         i, f, o = σ(·)   g = tanh(·)
        c_t = f ⊙ c_{t-1} + i ⊙ g
        h_t = N_output(o ⊙ tanh(N_cell(c_t)))               then W_hr h_t with a projection

    With `carried`, N_cell(c_t) replaces c_t. With peepholes a_i and a_f gain w_ci ⊙ c_{t-1} and w_cf ⊙ c_{t-1}, and
    a_o gains w_co ⊙ c_t, outside all normalizers (Gers & Schmidhuber 2000).

    Args:
        peepholes: let the gates see the cell state.

    Raises:
        ValueError: `peepholes` is neither true nor false.
    """

    name = "LSTM"
    gates = 4
    states = ("h", "c")
    write = 0
    forget = 1
    forget_bias = 1.0
    projects = True

    def __init__(self, peepholes: bool = False) -> None:
        self.peepholes = FLAG.check("peepholes", peepholes)
        self.torch_operator = None if self.peepholes else "lstm"

    def step(self, layer: Layer, gates_x: Tensor, states: tuple[Tensor, ...], t: int) -> tuple[Tensor, ...]:
        """h_t and c_t; see `Equations.step`."""
        h, c = states
        norms, weights = layer.norms, layer.weights
        i, f, g, o = layer.gates(gates_x, h, t).chunk(4, 1)
        if weights.peepholes is not None:
            i = i + weights.peepholes[0] * c
            f = f + weights.peepholes[1] * c
        c = f.sigmoid() * c + i.sigmoid() * layer.drop(g.tanh())
        seen = c
        if norms.cell is not None:
            seen = norms.cell(c, t)
            if norms.carried:
                c = seen
        if weights.peepholes is not None:
            o = o + weights.peepholes[2] * c
        h = o.sigmoid() * seen.tanh()
        if norms.output is not None:
            h = norms.output(h, t)
        return (h if weights.W_hr is None else F.linear(h, weights.W_hr)), c
