"""The plain RNN of Elman."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .base import Equations, Layer

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "identity": lambda a: a,
}
"""φ by name."""


def check_nonlinearity(nonlinearity: str) -> str:
    """The name of φ, which is one of `NONLINEARITIES`.

    Raises:
        ValueError: it is none.
    """
    if nonlinearity not in tuple(NONLINEARITIES):
        raise ValueError(f"nonlinearity must be one of {', '.join(NONLINEARITIES)}, got {nonlinearity!r}")
    return nonlinearity


class RNNEquations(Equations):
    """One step of a plain RNN.

        h_t = N_output(φ(N_joint(N_input(W_ih x_t) + N_hidden(W_hh h_{t-1})) + b))

    Args:
        nonlinearity: φ: "tanh", "relu", or "identity", the linear RNN, in which normalizers are the only nonlinearity.

    Raises:
        ValueError: unknown nonlinearity.
    """

    name = "RNN"
    gates = 1
    has_update = False

    def __init__(self, nonlinearity: str = "tanh") -> None:
        self.nonlinearity = check_nonlinearity(nonlinearity)
        self.torch_operator = None if nonlinearity == "identity" else f"rnn_{nonlinearity}"

    def step(self, layer: Layer, gates_x: Tensor, states: tuple[Tensor, ...], t: int) -> tuple[Tensor, ...]:
        """h_t; see `Equations.step`."""
        h = NONLINEARITIES[str(self.nonlinearity)](layer.gates(gates_x, states[0], t))
        return (h if layer.norms.output is None else layer.norms.output(h, t),)
