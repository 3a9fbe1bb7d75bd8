"""Single steps: `torch.nn.LSTMCell`, `torch.nn.GRUCell` and `torch.nn.RNNCell` with normalizers."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from .equations import Cell, GRUEquations, Layer, LSTMEquations, RNNEquations
from .options import check_options
from .placement import Norm
from .weights import RecurrentWeights

State = TypeVar("State")


class RecurrentCell(RecurrentWeights, Generic[State]):
    """One step of a recurrent network; `LSTMCell`, `GRUCell` and `RNNCell` say with which equations.

    Args:
        cell: the equations.
        arguments: those of the subclass's constructor, by name.
    """

    def __init__(self, cell: Cell, arguments: dict[str, Any]) -> None:
        check_options(cell, arguments)
        super().__init__(cell, arguments)
        input_size, hidden_size = self.input_size, self.hidden_size
        if "between" in self.norm.places:
            raise ValueError(
                f"a single cell has no place between layers: use rnnnorm.{cell.name}, or leave `between` out"
            )
        self.create_weights("", input_size)
        keys = {key: arguments[key] for key in ("device", "dtype")}
        self.norms = cell.build_norms(self.norm, hidden_size, arguments["max_steps"], **keys)
        self.initialize("")
        self.normalize_weights("")

    def reset_parameters(self) -> None:
        """Draw new weights; gains, biases and statistics go back to their initial values."""
        self.initialize("")
        self.reset_norms()

    def forward(self, input: Tensor, hx: State | None = None, *, step: int | None = None) -> State:
        """One step: returns the new state, (h, c) of an LSTM and h otherwise.

        Args:
            input: (B, input_size), or (input_size,) for a single sequence.
            hx: the state of the step before; zeros if omitted.
            step: number of the timestep, from 0; needed if and only if the norm keeps statistics per timestep.

        Raises:
            ValueError: a shape that does not fit, or no step where one is needed.
        """
        if input.dim() not in (1, 2) or input.shape[-1] != self.input_size:
            raise ValueError(
                f"expected input (batch, {self.input_size}) or ({self.input_size},), got {tuple(input.shape)}"
            )
        if step is None and self.norms.per_step():
            raise ValueError(f"norm {self.norm.name!r} keeps statistics per timestep: call the cell with step=t")
        rows = input if input.dim() == 2 else input.unsqueeze(0)
        names = self.cell.states
        if hx is None:
            states = (rows.new_zeros(rows.shape[0], self.hidden_size),) * len(names)
        else:
            given: Any = (hx,) if len(names) == 1 else hx
            for name, state in zip(names, given, strict=True):
                expected = (*input.shape[:-1], self.hidden_size)
                if state.shape != expected:
                    raise ValueError(f"expected {name} of shape {expected}, got {tuple(state.shape)}")
            states = tuple(state if input.dim() == 2 else state.unsqueeze(0) for state in given)
        layer, t = Layer(self.cell, self.layer_weights(""), self.norms), step or 0
        if t == 0:
            self.norms.reset_sequence()
        states = layer.step(layer.gates_x_at(rows, t), states, t)
        result: Any = states if input.dim() == 2 else tuple(state.squeeze(0) for state in states)
        new: State = result[0] if len(names) == 1 else result
        return new

    def extra_repr(self) -> str:
        """Sizes and norm."""
        return f"{self.input_size}, {self.hidden_size}, bias={self.bias}, norm={self.norm.name}"


class LSTMCell(RecurrentCell[tuple[Tensor, Tensor]]):
    """`torch.nn.LSTMCell` with normalizers: same constructor, same call, and `norm=`.

    Args:
        input_size: features per row of the input.
        hidden_size: H.
        bias: learn b; with `norm="none"` it is torch's pair `bias_ih`, `bias_hh`, otherwise one `bias_ih`.
        device: where parameters live.
        dtype: their type.
        norm: a preset, with overrides (`"bn-timestep:gain=1.0"`), or a `Norm`.
        max_steps: slots of per-timestep statistics.
        init: "torch" (uniform ±1/√H), "orthogonal" (orthogonal W_hh per gate, forget bias 1) or "chrono".
        peepholes: gates see the cell state.

    Shape:
        input (B, input_size) or (input_size,); hx = (h, c), each (B, H) or (H,); returns (h, c) likewise.

    Example:
        >>> cell = LSTMCell(10, 20, norm="bn-timestep")
        >>> state = None
        >>> for t, x_t in enumerate(torch.randn(6, 3, 10)):
        ...     state = cell(x_t, state, step=t)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | Norm = "none",
        max_steps: int = 100,
        init: str = "torch",
        peepholes: bool = False,
    ) -> None:
        arguments = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__(LSTMEquations(peepholes), arguments)


class GRUCell(RecurrentCell[Tensor]):
    """`torch.nn.GRUCell` with normalizers: same constructor, same call, and `norm=`; see `rnnnorm.GRU`.

    Args:
        input_size: features per row of the input.
        hidden_size: H.
        bias: learn the biases; with `norm="none"` torch's pair, otherwise `bias_ih` (3H,) and `bias_hn` (H,).
        device: where parameters live.
        dtype: their type.
        norm: a preset, with overrides, or a `Norm`.
        max_steps: slots of per-timestep statistics.
        init: "torch", "orthogonal" or "chrono".

    Shape:
        input (B, input_size) or (input_size,); hx = h, (B, H) or (H,); returns h likewise.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | Norm = "none",
        max_steps: int = 100,
        init: str = "torch",
    ) -> None:
        arguments = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__(GRUEquations(), arguments)


class RNNCell(RecurrentCell[Tensor]):
    """`torch.nn.RNNCell` with normalizers: same constructor, same call, and `norm=`; see `rnnnorm.RNN`.

    Args:
        input_size: features per row of the input.
        hidden_size: H.
        bias: learn b; with `norm="none"` it is torch's pair, otherwise one `bias_ih`.
        nonlinearity: "tanh", "relu" or "identity".
        device: where parameters live.
        dtype: their type.
        norm: a preset, with overrides, or a `Norm`.
        max_steps: slots of per-timestep statistics.
        init: "torch" or "orthogonal".

    Shape:
        input (B, input_size) or (input_size,); hx = h, (B, H) or (H,); returns h likewise.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | Norm = "none",
        max_steps: int = 100,
        init: str = "torch",
    ) -> None:
        arguments = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__(RNNEquations(nonlinearity), arguments)
