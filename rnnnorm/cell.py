"""One step of a normalized LSTM: the equations, readable. Every faster path is tested against this file."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .norms import Normalizer
from .placement import Norm, parse_norm
from .weights import RecurrentWeights


class CellNorms(nn.Module):
    """The normalizers inside one layer and direction: N_x at `input`, N_h at `hidden`, N_c at `cell`; any may be None.

    The bias b of the gates is one and stands outside, so N_x and N_h learn a gain only; N_c learns gain and bias.
    """

    input: Normalizer | None
    hidden: Normalizer | None
    cell: Normalizer | None

    def __init__(
        self,
        norm: Norm,
        hidden_size: int,
        max_steps: int = 100,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.carried = norm.carried
        for place, features, bias in (("input", 4, False), ("hidden", 4, False), ("cell", 1, True)):
            use = norm.places.get(place)
            module = None
            if use is not None and not use.is_weight:
                keys = {"bias": bias, "max_steps": max_steps, "device": device, "dtype": dtype}
                module = use.build(features * hidden_size, **keys)
            self.register_module(place, module)

    def any(self) -> bool:
        """Whether there is a normalizer at all."""
        return any(module is not None for module in self.children())

    def per_step(self) -> bool:
        """Whether some normalizer keeps statistics per timestep, so that the number of a step matters."""
        return any(isinstance(module, Normalizer) and module.per_step for module in self.children())


NO_NORMS = CellNorms(Norm(), 1)
"""Stands for "nothing is normalized here"."""


def lstm_step(
    gates_x: Tensor,
    h: Tensor,
    c: Tensor,
    W_hh: Tensor,
    W_hr: Tensor | None,
    norms: CellNorms,
    t: int,
) -> tuple[Tensor, Tensor]:
    """One timestep, for B_t active rows.

        a_t = N_x(W_ih x_t) + b + N_h(W_hh h_{t-1})         i, f, o = σ(·)   g = tanh(·)
        c_t = f ⊙ c_{t-1} + i ⊙ g
        h_t = o ⊙ tanh(N_c(c_t))                            h_t = W_hr (o ⊙ tanh(N_c(c_t))) with a projection

    Args:
        gates_x: N_x(W_ih x_t) + b, (B_t, 4H), gates in torch's order i, f, g, o.
        h: h_{t-1}, (B_t, H) or (B_t, proj_size).
        c: c_{t-1}, (B_t, H).
        W_hh: (4H, H) or (4H, proj_size).
        W_hr: (proj_size, H), or None.
        norms: N_h and N_c; N_x is already in `gates_x`.
        t: number of the step.

    Returns:
        h_t and c_t.
    """
    gates_h = F.linear(h, W_hh)
    if norms.hidden is not None:
        gates_h = norms.hidden(gates_h, t)
    i, f, g, o = (gates_x + gates_h).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    seen = c
    if norms.cell is not None:
        seen = norms.cell(c, t)
        if norms.carried:
            c = seen
    h = o.sigmoid() * seen.tanh()
    return (h if W_hr is None else F.linear(h, W_hr)), c


class LSTMCell(RecurrentWeights):
    """`torch.nn.LSTMCell` with normalizers: same constructor, same call, and `norm=`.

    Args:
        input_size: features per row of the input.
        hidden_size: H.
        bias: learn b; with `norm="none"` it is torch's pair `bias_ih`, `bias_hh`, otherwise one `bias`.
        device: where parameters live.
        dtype: their type.
        norm: a preset, with overrides (`"bn-timestep:gain=1.0"`), or a `Norm`.
        max_steps: slots of per-timestep statistics.
        init: "torch" (uniform ±1/√H) or "orthogonal" (orthogonal W_hh per gate, forget bias 1).

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
    ) -> None:
        arguments = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__(arguments)
        self.norm = parse_norm(norm)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        if hidden_size < 1 or input_size < 1:
            raise ValueError(f"input_size and hidden_size must be at least 1, got {input_size} and {hidden_size}")
        if "between" in self.norm.places:
            raise ValueError("a single cell has no place between layers: use rnnnorm.LSTM, or leave `between` out")
        self.create_weights("", input_size, hidden_size, 0, bias, self.norm)
        self.norms = CellNorms(self.norm, hidden_size, max_steps, device=device, dtype=dtype)
        self.initialize("", hidden_size, bias)
        self.normalize_weights("", self.norm)

    def reset_parameters(self) -> None:
        """Draw new weights; gains, biases and statistics go back to their initial values."""
        self.initialize("", self.hidden_size, self.bias)
        self.reset_norms()

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None, *, step: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step: returns (h, c).

        Args:
            input: (B, input_size), or (input_size,) for a single sequence.
            hx: (h, c) of the step before; zeros if omitted.
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
        if hx is None:
            h = c = rows.new_zeros(rows.shape[0], self.hidden_size)
        else:
            for name, state in zip("hc", hx, strict=True):
                expected = (*input.shape[:-1], self.hidden_size)
                if state.shape != expected:
                    raise ValueError(f"expected {name} of shape {expected}, got {tuple(state.shape)}")
            h, c = (state if input.dim() == 2 else state.unsqueeze(0) for state in hx)
        weights, t = self.layer_weights(""), step or 0
        gates_x = F.linear(rows, weights.W_ih)
        if self.norms.input is not None:
            gates_x = self.norms.input(gates_x, t)
        if weights.bias is not None:
            gates_x = gates_x + weights.bias
        h, c = lstm_step(gates_x, h, c, weights.W_hh, None, self.norms, t)
        return (h, c) if input.dim() == 2 else (h.squeeze(0), c.squeeze(0))

    def extra_repr(self) -> str:
        """Sizes and norm."""
        return f"{self.input_size}, {self.hidden_size}, bias={self.bias}, norm={self.norm.name}"
