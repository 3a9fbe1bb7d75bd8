"""The light GRU."""

from __future__ import annotations

from torch import Tensor

from .base import Equations, Layer


class LiGRUEquations(Equations):
    """One step of a light GRU, gates in the order z, n: no reset gate, a ReLU in the place of tanh.

        a_t = N_joint(N_input(W_ih x_t) + N_hidden(W_hh h_{t-1})) + b          z = σ(a_z)   n = max(a_n, 0)
        h_t = N_output(z ⊙ h_{t-1} + (1 - z) ⊙ m ⊙ n)

    m is the mask of recurrent dropout: one per sequence, the same at all its steps.

    Source: Ravanelli, Brakel, Omologo and Bengio, "Light Gated Recurrent Units for Speech Recognition", IEEE
    Transactions on Emerging Topics in Computational Intelligence, 2018.
    """

    name = "LiGRU"
    gates = 2
    forget = 0
    steady_dropout = True

    def step(self, layer: Layer, gates_x: Tensor, states: tuple[Tensor, ...], t: int) -> tuple[Tensor, ...]:
        """h_t; see `Equations.step`."""
        (h,) = states
        z, n = layer.gates(gates_x, h, t).chunk(2, 1)
        z = z.sigmoid()
        h = z * h + (1 - z) * layer.drop(n.relu())
        return (h if layer.norms.output is None else layer.norms.output(h, t),)
