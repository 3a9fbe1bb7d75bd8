"""Single steps: `torch.nn.LSTMCell`, `torch.nn.GRUCell` and `torch.nn.RNNCell` with normalizers."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ..common.transforms import by_plain_operators, sizes_are_fixed
from ..equations import NO_NORMS, QUIET, Equations, GRUEquations, Layer, LSTMEquations, RNNEquations
from ..norms.places import Norm
from .compiled import keeps_python, outside
from .inputs import InputError
from .options import Options
from .padded import check_normalizers
from .streaming import step_cell
from .weights import RecurrentWeights

State = TypeVar("State")


class RecurrentCell(RecurrentWeights, nn.RNNCellBase, Generic[State]):
    """One step of a recurrent network; `LSTMCell`, `GRUCell` and `RNNCell` say with which equations.

    Args:
        cell: the equations.
        options: those of the subclass's constructor.
    """

    def __init__(self, cell: Equations, options: Options) -> None:
        super().__init__(cell, options)
        input_size, hidden_size = self.input_size, self.hidden_size
        if "between" in self.norm.places:
            raise ValueError(
                f"a single cell has no place between layers: use rnnnorm.{cell.name}, or leave `between` out"
            )
        if "emitted" in self.norm.places:
            raise ValueError(
                f"a single cell emits the state that it goes on from: use rnnnorm.{cell.name}, or leave `emitted` out"
            )
        self.create_weights("", input_size)
        for name in () if self.bias else ("bias_ih", "bias_hh"):  # as in torch's cells
            self.register_parameter(name, None)
        norms = cell.build_norms(self.norm, hidden_size, options.max_steps, options.device, options.dtype)
        if norms.any():
            self.norms = norms
        else:  # no submodule, which would show in repr
            self.__dict__["norms"] = NO_NORMS
        self.initialize("")
        self.normalize_weights("")

    def reset_parameters(self) -> None:
        """Draw new weights; gains, biases and statistics go back to their initial values."""
        self.initialize("")
        self.reset_norms()

    def forward(self, input: Tensor, hx: State | None = None, step: int | None = None) -> State:
        """One step: returns the new state, (h, c) of an LSTM and h otherwise.

        Args:
            input: (B, input_size), or (input_size,) for a single sequence.
            hx: the state of the step before; zeros if omitted.
            step: number of the timestep, from 0; needed if and only if the norm keeps statistics per timestep.

        Raises:
            InputError: a shape, type or device that does not fit.
            ValueError: no step where one is needed.
            TypeError: a step that is no integer.
        """
        if not isinstance(input, Tensor):
            raise TypeError(f"expected a Tensor, got {type(input).__name__}")
        _check_step(step)
        if not by_plain_operators():
            return self._step(input, hx, step)
        check_normalizers(self)
        with sizes_are_fixed():
            return self._step(input, hx, step)

    def _step(self, input: Tensor, hx: State | None, step: int | None) -> State:
        if input.dim() not in (1, 2) or input.shape[-1] != self.input_size:
            raise InputError(
                f"expected input (batch, {self.input_size}) or ({self.input_size},), got {tuple(input.shape)}"
            )
        if step is None and self.norms.per_step():
            raise ValueError(f"norm {self.norm.name!r} keeps statistics per timestep: call the cell with step=t")
        compiling = torch.compiler.is_compiling() and not by_plain_operators()
        if compiling and any(map(keeps_python, self.norms.children())):
            later: State = outside(self, input, hx, step=step)
            return later
        rows = input if input.dim() == 2 else input.unsqueeze(0)
        names = self.cell.states
        if hx is None:
            self.check_tensors(rows)
            states = (rows.new_zeros(rows.shape[0], self.hidden_size),) * len(names)
        else:
            given = self._as_tuple(hx)
            self.check_tensors(rows, given[:1])  # c enters no product, and may be kept in a wider type, as in torch
            for name, state in zip(names, given, strict=True):
                expected = (*input.shape[:-1], self.hidden_size)
                if state.shape != expected:
                    raise InputError(f"expected {name} of shape {expected}, got {tuple(state.shape)}")
            states = tuple(state if input.dim() == 2 else state.unsqueeze(0) for state in given)
        t = step or 0
        if t == 0:
            self.norms.reset_sequence()
        stepped = None if self.training else step_cell(self, RecurrentCell, rows, states, t)
        if stepped is not None:
            states = stepped
        elif rows.shape[0]:
            layer = Layer(self.cell, self.layer_weights(""), self.norms, QUIET, None)
            states = layer.step(layer.gates_x_at(rows, t), states, t)
        else:  # no rows to take statistics over
            states = (self.nothing([""], rows, *states).view(0, self.hidden_size),) * len(names)
        result: Any = states if input.dim() == 2 else tuple(state.squeeze(0) for state in states)
        new: State = result[0] if len(names) == 1 else result
        return new


def _check_step(step: object) -> None:
    if step is not None and not isinstance(step, int) and not hasattr(step, "__index__"):
        raise TypeError(f"step must be an integer, got {step!r}")


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
        >>> h, c = state
        >>> h.shape
        torch.Size([3, 20])
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
        super().__init__(
            LSTMEquations(peepholes),
            Options(
                input_size=input_size, hidden_size=hidden_size, bias=bias, device=device, dtype=dtype, norm=norm,
                max_steps=max_steps, init=init,
            ),
        )  # fmt: skip


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
        super().__init__(
            GRUEquations(),
            Options(
                input_size=input_size, hidden_size=hidden_size, bias=bias, device=device, dtype=dtype, norm=norm,
                max_steps=max_steps, init=init,
            ),
        )  # fmt: skip


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
        super().__init__(
            RNNEquations(nonlinearity),
            Options(
                input_size=input_size, hidden_size=hidden_size, bias=bias, device=device, dtype=dtype, norm=norm,
                max_steps=max_steps, init=init,
            ),
        )  # fmt: skip

    @property
    def nonlinearity(self) -> str:
        """The name of φ."""
        return str(self.cell.nonlinearity)
