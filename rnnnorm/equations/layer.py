"""One layer and direction, ready to run: the cell, its weights, its normalizers, what is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from .noise import QUIET, Noise
from .norms import CellNorms

if TYPE_CHECKING:
    from .base import Cell


class LayerWeights(NamedTuple):
    """The weights of one layer and direction, as used in the equations; G is the number of gates.

    Args:
        W_ih: (G·H, I).
        W_hh: (G·H, H), or (G·H, proj_size).
        biases: none, one (G·H,), or torch's pair of them.
        W_hr: (proj_size, H), or None.
        bias_hn: (H,), the bias inside a GRU's reset product where `biases` is not torch's pair; or None.
        peepholes: w_ci, w_cf, w_co, each (H,), of an LSTM with peepholes; or None.
    """

    W_ih: Tensor
    W_hh: Tensor
    biases: tuple[Tensor, ...]
    W_hr: Tensor | None = None
    bias_hn: Tensor | None = None
    peepholes: tuple[Tensor, Tensor, Tensor] | None = None

    def tensors(self) -> list[Tensor]:
        """All of them that there are, in this order."""
        rest = [t for t in (self.W_hr, self.bias_hn) if t is not None]
        return [self.W_ih, self.W_hh, *self.biases, *rest, *(self.peepholes or ())]

    @property
    def layout(self) -> tuple[int, bool, bool, bool]:
        """Number of biases, and whether there are W_hr, b_hn and peepholes: what `from_tensors` needs to know."""
        return len(self.biases), self.W_hr is not None, self.bias_hn is not None, self.peepholes is not None

    @classmethod
    def from_tensors(cls, tensors: Iterator[Tensor], layout: tuple[int, bool, bool, bool]) -> LayerWeights:
        """The weights whose `tensors` come next."""
        biases, projected, inside, peepholes = layout
        W_ih, W_hh = next(tensors), next(tensors)
        both = tuple(next(tensors) for _ in range(biases))
        W_hr = next(tensors) if projected else None
        bias_hn = next(tensors) if inside else None
        return cls(
            W_ih, W_hh, both, W_hr, bias_hn, (next(tensors), next(tensors), next(tensors)) if peepholes else None
        )

    @property
    def bias(self) -> Tensor | None:
        """The one bias b of an LSTM or RNN; a GRU's is in `GRUEquations.split_biases`."""
        return sum(self.biases[1:], self.biases[0]) if self.biases else None


@dataclass(frozen=True)
class Layer:
    """What all steps of one run over a batch of sequences share.

    Args:
        cell: the equations.
        weights: of this layer and direction.
        norms: its normalizers.
        noise: what is dropped inside.
        mask: of h_{t-1}, (B, H), where `noise.hidden` asks for one; see `start`.
    """

    cell: Cell
    weights: LayerWeights
    norms: CellNorms
    noise: Noise = QUIET
    mask: Tensor | None = None
    _split: list[tuple[Tensor | None, Tensor | None]] = field(init=False, repr=False, default_factory=list)

    @property
    def split(self) -> tuple[Tensor | None, Tensor | None]:
        """The bias b outside and, in a GRU, b_hn inside; added up once per run, not once per step."""
        if not self._split:
            self._split.append(self.cell.split_biases(self.weights))
        return self._split[0]

    def gates_x(self, data: Tensor, sizes: list[int]) -> Tensor:
        """N_input(W_ih x) of all packed rows, (N, G·H), with b unless N_joint stands, which comes before b."""
        norm, bias = self.norms.input, self.split[0]
        W = self.weights.W_ih
        gates = F.linear(data, W) if norm is None else norm.sequence_linear(data, W, sizes)
        return gates if bias is None or self.norms.joint is not None else gates + bias

    def gates_x_at(self, x: Tensor, t: int) -> Tensor:
        """The same for the rows of one step, (B_t, I) → (B_t, G·H)."""
        norm, bias = self.norms.input, self.split[0]
        gates = F.linear(x, self.weights.W_ih) if norm is None else norm.linear(x, self.weights.W_ih, t)
        return gates if bias is None or self.norms.joint is not None else gates + bias

    def gates_h(self, h: Tensor, t: int) -> Tensor:
        """N_hidden(W_hh h_{t-1}) of the active rows, (B_t, G·H)."""
        if self.mask is not None:
            h = h * self.mask[: h.shape[0]]
        norm, W = self.norms.hidden, self.weights.W_hh
        return F.linear(h, W) if norm is None else norm.linear(h, W, t)

    def gates(self, gates_x: Tensor, h: Tensor, t: int) -> Tensor:
        """a_t = N_joint(N_input(W_ih x_t) + N_hidden(W_hh h_{t-1})) + b, (B_t, G·H)."""
        gates = gates_x + self.gates_h(h, t)
        if self.norms.joint is not None:
            gates = self.norms.joint(gates, t)
            gates = gates if self.split[0] is None else gates + self.split[0]
        return gates

    def step(self, gates_x: Tensor, states: tuple[Tensor, ...], t: int) -> tuple[Tensor, ...]:
        """The states of the active rows after step t, from `gates_x` of that step and the states before."""
        return self.noise.zone(states, self.cell.step(self, gates_x, states, t))
