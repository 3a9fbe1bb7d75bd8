"""`torch.nn.GRU` with normalizers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..equations import GRUEquations
from ..norms.places import Norm
from .options import Options
from .recurrent import Recurrent


class GRU(Recurrent[Tensor]):
    """A (multi-layer, bidirectional) GRU with normalizers, as `torch.nn.GRU` otherwise.

        r, z = σ(N_input(W_ih x_t)_rz + N_hidden(W_hh h_{t-1})_rz + b_rz)
        n    = tanh(N_input(W_ih x_t)_n + r ⊙ (N_hidden(W_hh h_{t-1})_n + b_hn) + b_n)
        h_t  = N_output((1 - z) ⊙ n + z ⊙ h_{t-1})

    With `norm="none"` it has `torch.nn.GRU`'s parameters, names and results. Places, presets, ragged batches and
    options are those of `rnnnorm.LSTM`. Two differences: a GRU has no cell state, so presets drop their normalizer of
    it (and those which have no other are refused); b_hn stands inside the reset product and is not redundant, so with a
    norm there are `bias_ih_l{k}` (3H,) and `bias_hn_l{k}` (H,). `rnnnorm.equations.GRUEquations` has the joint place.

    Args:
        input_size: features per row.
        hidden_size: H.
        num_layers: layers, each reading the one before.
        bias: learn b and b_hn.
        batch_first: dense and padded tensors are (B, T, F) instead of (T, B, F).
        dropout: on the rows that leave each layer but the last, in training.
        bidirectional: add a second, independent direction per layer, outputs concatenated.
        device: where parameters live.
        dtype: their type.
        norm: a preset, with overrides, or a `Norm`.
        max_steps: T_max, slots of per-timestep statistics and of `init="chrono"`.
        init: "torch", "orthogonal" (biases 0), or "chrono" (b_z = log U[1, T_max - 1]).
        initial_state: "zeros", or "learned" (parameter `h_0`).
        initial_state_noise: s; adds N(0, s²) to h_0 in training where `hx` is omitted.
        residual: "none", "plain", "skipinit", "fixup": as `rnnnorm.LSTM`.
        residual_scale: initial α.
        between_on: "branch" or "sum".
        variational_dropout: on rows, one mask per sequence.
        hidden_dropout: on h_{t-1} where W_hh reads it, one mask per sequence.
        recurrent_dropout: on the candidate n_t, a mask per step.
        weight_dropout: on W_hh, one mask per forward pass.
        zoneout: probability that an entry of h keeps its old value.
        backend: "auto" takes the fastest that covers the layer: "torch" (its own operators, where nothing is
            normalized) or "reference" (eager, covers everything). The attribute `ran` says which it was.

    Shape:
        input: PackedSequence; (T, B, input_size), with `lengths` or dense; or (T, input_size).
        hx: h_0 (layers·directions, B, H), without B for unbatched input.
        output: as the input, with directions·H features and zeros in the padding.
        h_n: each sequence's state after its own last step, as `hx`.

    Raises:
        ValueError: an argument or shape that does not fit, or a norm that makes no sense without a cell state.

    Example:
        >>> gru = GRU(10, 20, num_layers=2, batch_first=True, norm="ln")
        >>> output, h_n = gru(torch.randn(3, 50, 10), lengths=torch.tensor([50, 7, 23]))
        >>> output.shape, h_n.shape
        (torch.Size([3, 50, 20]), torch.Size([2, 3, 20]))
    """

    torch_class = nn.GRU
    variants: ClassVar = {"gru": {}}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | Norm = "none",
        max_steps: int = 100,
        init: str = "torch",
        initial_state: str = "zeros",
        initial_state_noise: float = 0.0,
        residual: str = "none",
        residual_scale: float | str | None = None,
        between_on: str = "branch",
        variational_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        backend: str = "auto",
    ) -> None:
        super().__init__(
            GRUEquations(),
            Options(
                input_size=input_size, hidden_size=hidden_size, num_layers=num_layers, bias=bias,
                batch_first=batch_first, dropout=dropout, bidirectional=bidirectional,
                device=device, dtype=dtype, norm=norm, max_steps=max_steps, init=init, initial_state=initial_state,
                initial_state_noise=initial_state_noise, residual=residual, residual_scale=residual_scale,
                between_on=between_on, variational_dropout=variational_dropout, hidden_dropout=hidden_dropout,
                recurrent_dropout=recurrent_dropout, weight_dropout=weight_dropout, zoneout=zoneout, backend=backend,
            ),
        )  # fmt: skip
