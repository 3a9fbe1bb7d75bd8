"""Light GRUs with normalizers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ..equations import LiGRUEquations
from ..norms.places import Norm
from .options import Options
from .recurrent import Recurrent


class LiGRU(Recurrent[Tensor]):
    """A (multi-layer, bidirectional) light GRU with normalizers, called as `rnnnorm.GRU` is.

        z    = σ(N_input(W_ih x_t)_z + N_hidden(W_hh h_{t-1})_z + b_z)
        n    = max(N_input(W_ih x_t)_n + N_hidden(W_hh h_{t-1})_n + b_n, 0)
        h_t  = N_output(z ⊙ h_{t-1} + (1 - z) ⊙ n)

    Two gates, no reset gate, and a ReLU, whose unbounded states are kept in bounds by batch normalization: as it was
    published, `norm="bn-vertical"` (Ravanelli et al. 2018). `norm="bn-vertical-ln"`, with layer normalization of
    W_hh h, is the stabilized SLi-GRU (Moumen & Parcollet 2023). Places, presets, ragged batches and options are those
    of `rnnnorm.LSTM`; there is no cell state, so presets drop their normalizer of it.

    Args:
        input_size: features per row.
        hidden_size: H.
        num_layers: layers, each reading the one before.
        bias: learn b.
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
        recurrent_dropout: on the candidate n, one mask per sequence, as published; 0.2 there.
        weight_dropout: on W_hh, one mask per forward pass.
        zoneout: probability that an entry of h keeps its old value.
        backend: "auto" or "reference", which both are the eager reference.

    Shape:
        input: PackedSequence; (T, B, input_size), with `lengths` or dense; or (T, input_size).
        hx: h_0 (layers·directions, B, H), without B for unbatched input.
        output: as the input, with directions·H features and zeros in the padding.
        h_n: each sequence's state after its own last step, as `hx`.

    Raises:
        ValueError: an argument or shape that does not fit, or a norm that makes no sense without a cell state.

    Sources: Ravanelli et al., "Light Gated Recurrent Units for Speech Recognition", IEEE TETCI 2018; Moumen and
    Parcollet, "Stabilising and accelerating light gated recurrent units for automatic speech recognition", ICASSP 2023.

    Example:
        >>> ligru = LiGRU(10, 20, num_layers=2, batch_first=True, norm="bn-vertical-ln", recurrent_dropout=0.2)
        >>> output, h_n = ligru(torch.randn(3, 50, 10), lengths=torch.tensor([50, 7, 23]))
    """

    variants: ClassVar = {"ligru": {}}

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
            LiGRUEquations(),
            Options(
                input_size=input_size, hidden_size=hidden_size, num_layers=num_layers, bias=bias,
                batch_first=batch_first, dropout=dropout, bidirectional=bidirectional,
                device=device, dtype=dtype, norm=norm, max_steps=max_steps, init=init, initial_state=initial_state,
                initial_state_noise=initial_state_noise, residual=residual, residual_scale=residual_scale,
                between_on=between_on, variational_dropout=variational_dropout, hidden_dropout=hidden_dropout,
                recurrent_dropout=recurrent_dropout, weight_dropout=weight_dropout, zoneout=zoneout, backend=backend,
            ),
        )  # fmt: skip
