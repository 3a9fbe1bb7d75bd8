"""Record of one layer's run: its states, their gradients, and its pre-activations, per timestep."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class LayerRecord:
    """One layer and direction in one run over a batch of sequences; in the reverse direction t counts from the end.

    Args:
        active: B_t, active rows of each step.
        inputs: the packed rows (N, I) that entered the layer, detached.
        initial: h_0, and c_0 if the cell has one, (B, H), detached.
        states: per state ("h", "c") its value after each step, (B_t, H) (h (B_t, proj_size) with a projection); part of
            the graph, and with a `.grad` after the backward pass where one was recorded. Zoneout is applied.
        gates: the pre-activations a_t of each step, (B_t, G·H) in torch's order of gates, detached: what σ and tanh
            (or φ) see, normalizers, bias and peepholes included. Empty unless asked for.
        entering: Frobenius norm of all gradients that reached the layer's results from outside its recurrence, where
            the layer was repeated for their sake; 0 without any.
    """

    active: list[int]
    inputs: Tensor
    initial: dict[str, Tensor]
    states: dict[str, list[Tensor]] = field(default_factory=dict)
    gates: list[Tensor] = field(default_factory=list)
    entering: float = 0.0

    def add_states(self, states: tuple[Tensor, ...]) -> None:
        """Take in the states after the next step."""
        for name, state in zip(self.initial, states, strict=True):
            if state.requires_grad:
                state.retain_grad()
            self.states.setdefault(name, []).append(state)

    def gradient_norms(self) -> dict[str, Tensor]:
        """‖∂L/∂h_t‖ (and ‖∂L/∂c_t‖) per step, (T,) float64.

        Frobenius norms over the B_t active rows of the total derivative: all that h_t does to the loss L of the last
        backward pass, by later steps, too. A step that had no influence on the loss has norm 0.
        """
        return {name: _norms(states) for name, states in self.states.items()}


def _norms(states: list[Tensor]) -> Tensor:
    norms = []
    for state in states:
        gradient = state.grad if state.is_leaf or state.retains_grad else None
        norms.append(state.new_zeros((), dtype=torch.float64) if gradient is None else _norm(gradient.double()))
    return torch.stack(norms)


def _norm(gradient: Tensor) -> Tensor:
    """The Frobenius norm, as far as float64 reaches: squares of what grows for hundreds of steps leave its range."""
    peak = gradient.abs().max() if gradient.numel() else gradient.new_zeros(())
    if not (torch.isfinite(peak) and peak > 0):
        return peak
    return peak * (gradient / peak).square().sum().sqrt()
