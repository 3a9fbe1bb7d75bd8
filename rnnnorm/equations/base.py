"""What a recurrent cell is to the rest of the package."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..norms.places import Norm
from .layer import Layer, LayerWeights
from .norms import CellNorms


class Cell(ABC):
    """The description of a recurrent cell: its gates, states and one step.

    A subclass says what is below; layers, directions, ragged batches, normalizers and dropout come with `Recurrent`.
    """

    name: str
    """What users call it."""
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
    peepholes: bool = False
    """Whether gates see the cell state."""
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

    def adapt(self, norm: Norm) -> Norm:
        """The norm as this cell has it: a cell without c_t drops the normalizer at `cell` of a preset.

        Published LN- and BN-GRUs and RNNs normalize what enters the gates only.

        Raises:
            ValueError: nothing would remain, `carried` replaces what does not exist, the place was asked for, or a
                normalizer's class names the `cells` that it is derived for and this one is not among them.
        """
        for use in norm.places.values():
            cells = use.cls.cells
            if cells is not None and self.name not in cells:
                raise ValueError(
                    f"norm {norm.name!r}: {use.normalizer!r} is derived for {', '.join(cells)}, not for a {self.name}"
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
