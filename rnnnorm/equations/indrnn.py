"""The independently recurrent neural network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..common.ranges import STEPS, Range
from ..common.transforms import transformed
from .base import Equations, Layer
from .rnn import NONLINEARITIES, check_nonlinearity

BOUND = Range(0, ends="(]", kinds=(float,), optional=True)
"""Values of γ."""


class IndRNNEquations(Equations):
    """One step of an independently recurrent neural network: each unit sees of the last state itself alone.

        h_t = N_output(φ(N_joint(N_input(W_ih x_t) + N_hidden(u ⊙ h_{t-1})) + b))          |u| ≤ γ^(1/T)

    Over T steps a gradient grows by a factor of γ at most, since |φ'| ≤ 1. A weight u beyond the limit counts as the
    limit, and has a gradient only where descent would bring it back.

    Args:
        nonlinearity: φ: "relu", "tanh" or "identity".
        bound: γ, above 0; None: u is not limited.
        max_steps: T.

    Raises:
        ValueError: unknown nonlinearity; γ not above 0.

    Source: Li, Li, Cook, Zhu and Gao, "Independently Recurrent Neural Network (IndRNN): Building A Longer and Deeper
    RNN", CVPR 2018.
    """

    name = "IndRNN"
    gates = 1
    has_update = False
    diagonal = True

    def __init__(self, nonlinearity: str = "relu", bound: float | None = 2.0, max_steps: int = 100) -> None:
        self.nonlinearity = check_nonlinearity(nonlinearity)
        self.bound = BOUND.check("bound", bound)
        steps = replace(STEPS, kinds=(int,)).check("max_steps", max_steps)
        self.limit = None if self.bound is None else float(self.bound ** (1 / steps))

    def step(self, layer: Layer, gates_x: Tensor, states: tuple[Tensor, ...], t: int) -> tuple[Tensor, ...]:
        """h_t; see `Equations.step`."""
        h = NONLINEARITIES[str(self.nonlinearity)](layer.gates(gates_x, states[0], t))
        return (h if layer.norms.output is None else layer.norms.output(h, t),)

    def bounded(self, u: Tensor) -> Tensor:
        """The weights u (H,) within their limit."""
        if self.limit is None:
            return u
        if transformed():
            return u.clamp(-self.limit, self.limit)
        kept: Tensor = _Bounded.apply(u, self.limit)  # type: ignore[no-untyped-call]
        return kept


class _Bounded(torch.autograd.Function):
    """Clamp whose gradient vanishes only where a step against it would lead further out."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, limit: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.limit = limit
        return u.clamp(-limit, limit)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        outward = ((u > ctx.limit) & (grad < 0)) | ((u < -ctx.limit) & (grad > 0))
        return grad.masked_fill(outward, 0.0), None
