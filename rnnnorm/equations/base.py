"""Recurrent cells as equations: the base class of each, and what all steps of a layer share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..norms import Normalizer
from ..norms.places import Norm
from .noise import QUIET, Noise
from .norms import CellNorms


class LayerWeights(NamedTuple):
    """The weights of one layer and direction, as used in the equations; G is the number of gates.

    Args:
        W_ih: (G·H, I).
        W_hh: (G·H, H), or (G·H, proj_size); u (H,) of an IndRNN.
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
        """The weights that there are, in the order above."""
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


class Equations(ABC):
    """The description of a recurrent cell: its gates, states and one step.

    A subclass defines `step` and the attributes below; `rnnnorm.nn` adds layers, directions and ragged batches.
    """

    name: str
    """Name that users see."""
    gates: int
    """G: blocks of H rows in W_ih and W_hh."""
    states: tuple[str, ...] = ("h",)
    """Names of the states; the first one is the output."""
    forget: int | None = None
    """The gate that keeps the state, if any: `init="chrono"` sets its bias."""
    write: int | None = None
    """The gate that lets the update in, if the cell has one apart from `forget`."""
    forget_bias: float = 0.0
    """Bias of the gate `forget` under `init="orthogonal"`."""
    has_update: bool = True
    """Whether something is added to the old state, which can be dropped without loss of memory."""
    steady_dropout: bool = False
    """Whether recurrent dropout drops the same entries of the update at all steps of a sequence."""
    diagonal: bool = False
    """Whether W_hh is a vector u (H,), the diagonal of a matrix, so that W_hh h is u ⊙ h."""
    peepholes: bool = False
    """Whether gates see the cell state."""
    projects: bool = False
    """Whether h_t can be projected (`proj_size`)."""
    nonlinearity: str | None = None
    """Name of φ, where the cell has a choice."""
    torch_operator: str | None = None
    """Name of ATen's operator for the cell without normalizers, if there is one."""

    @abstractmethod
    def step(self, layer: Layer, gates_x: Tensor, states: tuple[Tensor, ...], t: int) -> tuple[Tensor, ...]:
        """One timestep, for B_t active rows.

        Args:
            layer: what all steps share.
            gates_x: N_input(W_ih x_t) + b, (B_t, G·H); without b where N_joint stands.
            states: those of step t-1, each (B_t, H); h is (B_t, proj_size) with a projection.
            t: number of the step.

        Returns:
            The states of step t.
        """

    def sizes(self) -> dict[str, tuple[int, bool]]:
        """For each place, how many blocks of H features its rows have and whether its normalizer learns a bias."""
        sizes = dict.fromkeys(("input", "hidden", "joint"), (self.gates, False)) | {"output": (1, True)}
        return sizes | ({"cell": (1, True)} if "c" in self.states else {})

    def build_norms(
        self,
        norm: Norm,
        hidden_size: int,
        max_steps: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> CellNorms:
        """The normalizers inside one layer and direction.

        Raises:
            ValueError: one that cannot be built for these features.
        """
        try:
            return CellNorms(norm, self.sizes(), hidden_size, max_steps, device, dtype)
        except ValueError as error:
            raise ValueError(f"norm {norm.name!r} in a {self.name} with hidden_size={hidden_size}: {error}") from error

    def biases(self, hidden_size: int, pair: bool) -> dict[str, int]:
        """Names and lengths of the biases: torch's pair, or without redundancy."""
        names = ("bias_ih", "bias_hh") if pair else ("bias_ih",)
        return dict.fromkeys(names, self.gates * hidden_size)

    def split_biases(self, weights: LayerWeights) -> tuple[Tensor | None, Tensor | None]:
        """The bias outside, (G·H,), and the one that must stay inside, if the cell has one."""
        return weights.bias, None

    def merge_biases(self, bias_ih: Tensor, bias_hh: Tensor) -> dict[str, Tensor]:
        """Torch's pair as the biases without redundancy."""
        return {"bias_ih": bias_ih + bias_hh}

    def bounded(self, W_hh: Tensor) -> Tensor:
        """The recurrent weight within the limits that the cell sets, if it sets any."""
        return W_hh

    def adapt(self, norm: Norm) -> Norm:
        """The norm as this cell has it: a cell without c_t drops the normalizer at `cell` of a preset.

        Published LN- and BN-GRUs and RNNs normalize what enters the gates only.

        Raises:
            ValueError: nothing would remain, `carried` replaces what does not exist, the place was asked for, or a
                normalizer's class names the `cells` that it is derived for and this one is not among them; a normalizer
                at `hidden` that works on a matrix, where there is none.
        """
        for use in norm.places.values():
            cells = use.cls.cells
            if cells is not None and self.name not in cells:
                raise ValueError(
                    f"norm {norm.name!r}: {use.normalizer!r} is derived for {', '.join(cells)}, not for a {self.name}"
                )
        if self.diagonal and norm.hidden is not None:
            use = norm.hidden
            if use.is_weight or getattr(use.cls, "linear", None) is not Normalizer.linear:
                raise ValueError(
                    f"norm {norm.name!r}: {use.normalizer!r} at hidden works on the matrix W_hh, but that of an "
                    f"{self.name} is a vector"
                )
        if norm.cell is None or "c" in self.states:
            return norm
        if norm.carried:
            raise ValueError(f"norm {norm.name!r} carries the normalized c_t on, but a {self.name} has no cell state")
        if set(norm.places) == {"cell"}:
            raise ValueError(f"norm {norm.name!r} normalizes c_t only, but a {self.name} has no cell state")
        if norm.name == str(norm):  # not a preset but built place by place: dropping a place would be silent
            raise ValueError(f"a {self.name} has no cell state, so nothing can stand at `cell`, got {str(norm.cell)!r}")
        return norm.without("cell")


@dataclass(frozen=True)
class Layer:
    """A layer and direction during one run: what all its steps share.

    Args:
        cell: the equations.
        weights: of this layer and direction.
        norms: its normalizers.
        noise: what is dropped inside.
        mask: of h_{t-1}, (B, H), where `noise.hidden` asks for one.
        update_mask: of the update, (B, H), where `noise.steady` asks for one.
    """

    cell: Equations
    weights: LayerWeights
    norms: CellNorms
    noise: Noise = QUIET
    mask: Tensor | None = None
    update_mask: Tensor | None = None
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
        """N_input(W_ih x_t) + b of the rows of one step, (B_t, I) → (B_t, G·H)."""
        norm, bias = self.norms.input, self.split[0]
        gates = F.linear(x, self.weights.W_ih) if norm is None else norm.linear(x, self.weights.W_ih, t)
        return gates if bias is None or self.norms.joint is not None else gates + bias

    def gates_h(self, h: Tensor, t: int) -> Tensor:
        """N_hidden(W_hh h_{t-1}) of the active rows, (B_t, G·H)."""
        if self.mask is not None:
            h = h * self.mask[: h.shape[0]]
        norm, W = self.norms.hidden, self.weights.W_hh
        if self.cell.diagonal:
            return h * W if norm is None else norm(h * W, t)
        return F.linear(h, W) if norm is None else norm.linear(h, W, t)

    def gates(self, gates_x: Tensor, h: Tensor, t: int) -> Tensor:
        """a_t = N_joint(N_input(W_ih x_t) + N_hidden(W_hh h_{t-1})) + b, (B_t, G·H)."""
        gates = gates_x + self.gates_h(h, t)
        if self.norms.joint is not None:
            gates = self.norms.joint(gates, t)
            gates = gates if self.split[0] is None else gates + self.split[0]
        return gates

    def drop(self, update: Tensor) -> Tensor:
        """Recurrent dropout of the update of one step, (B_t, H)."""
        if self.update_mask is not None:
            return update * self.update_mask[: update.shape[0]]
        return update if self.noise is QUIET else self.noise.drop(update)

    def step(self, gates_x: Tensor, states: tuple[Tensor, ...], t: int) -> tuple[Tensor, ...]:
        """The states of the active rows after step t, from `gates_x` of that step and the states before."""
        new = self.cell.step(self, gates_x, states, t)
        return new if self.noise is QUIET else self.noise.zone(states, new)
