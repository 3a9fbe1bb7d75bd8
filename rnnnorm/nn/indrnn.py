"""Independently recurrent neural networks with normalizers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ..equations import IndRNNEquations
from ..norms.places import Norm
from .options import Options
from .recurrent import Recurrent


class IndRNN(Recurrent[Tensor]):
    """A (multi-layer, bidirectional) independently recurrent neural network with normalizers, called as `rnnnorm.RNN`.

        h_t = N_output(φ(N_joint(N_input(W_ih x_t) + N_hidden(u ⊙ h_{t-1})) + b))          |u| ≤ γ^(1/T_max)

    Each unit sees of the last state itself alone; units meet in the next layer, so there should be several. The weight
    `weight_hh_l{k}` is the vector u (H,). Batch normalization before the activation is `norm="bn-vertical"`, before the
    recurrent sum, as published, or `"bn-joint"`, after it; batch normalization after the activation is
    `norm="emitted=bn"`. Places, presets, ragged batches and options are those of `rnnnorm.LSTM`; there is no cell
    state, so presets drop their normalizer of it, and those that work on the matrix W_hh are refused.

    Args:
        input_size: features per row.
        hidden_size: H.
        num_layers: layers, each reading the one before.
        nonlinearity: φ: "relu", "tanh" or "identity".
        bias: learn b.
        batch_first: dense and padded tensors are (B, T, F) instead of (T, B, F).
        dropout: on the rows that leave each layer but the last, in training.
        bidirectional: add a second, independent direction per layer, outputs concatenated.
        device: where parameters live.
        dtype: their type.
        norm: a preset, with overrides, or a `Norm`.
        max_steps: T_max, slots of per-timestep statistics, and the steps of the limit of u.
        bound: γ, by which a gradient may grow over T_max steps: |u| is limited to γ^(1/T_max). 2, as published; None:
            there is no limit.
        init: "torch" or "orthogonal" (Glorot-uniform W_ih, biases 0); u is uniform on [0, 1] in both.
        initial_state: "zeros", or "learned" (parameter `h_0`).
        initial_state_noise: s; adds N(0, s²) to h_0 in training where `hx` is omitted.
        residual: "none", "plain", "skipinit", "fixup": as `rnnnorm.LSTM`.
        residual_scale: initial α.
        between_on: "branch" or "sum".
        variational_dropout: on rows, one mask per sequence.
        hidden_dropout: on h_{t-1} where u reads it, one mask per sequence.
        recurrent_dropout: must be 0: dropping h_t would be loss of memory (Semeniuta et al. 2016).
        weight_dropout: on u, one mask per forward pass.
        zoneout: probability that an entry of h keeps its old value.
        backend: "auto" or "reference", which both are the eager reference.

    Shape:
        input: PackedSequence; (T, B, input_size), with `lengths` or dense; or (T, input_size).
        hx: h_0 (layers·directions, B, H), without B for unbatched input.
        output: as the input, with directions·H features and zeros in the padding.
        h_n: each sequence's state after its own last step, as `hx`.

    Raises:
        ValueError: an argument or shape that does not fit, or a norm that makes no sense without a cell state or
            without a matrix W_hh.

    Source: Li et al., "Independently Recurrent Neural Network (IndRNN): Building A Longer and Deeper RNN", CVPR 2018.

    Example:
        >>> indrnn = IndRNN(10, 20, num_layers=4, batch_first=True, norm="bn-vertical", max_steps=50)
        >>> output, h_n = indrnn(torch.randn(3, 50, 10), lengths=torch.tensor([50, 7, 23]))
    """

    variants: ClassVar = {"indrnn": {}}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "relu",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | Norm = "none",
        max_steps: int = 100,
        bound: float | None = 2.0,
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
            IndRNNEquations(nonlinearity, bound, max_steps),
            Options(
                input_size=input_size, hidden_size=hidden_size, num_layers=num_layers, bias=bias,
                batch_first=batch_first, dropout=dropout, bidirectional=bidirectional,
                device=device, dtype=dtype, norm=norm, max_steps=max_steps, init=init, initial_state=initial_state,
                initial_state_noise=initial_state_noise, residual=residual, residual_scale=residual_scale,
                between_on=between_on, variational_dropout=variational_dropout, hidden_dropout=hidden_dropout,
                recurrent_dropout=recurrent_dropout, weight_dropout=weight_dropout, zoneout=zoneout, backend=backend,
            ),
        )  # fmt: skip

    @property
    def nonlinearity(self) -> str:
        """The name of φ."""
        return str(self.cell.nonlinearity)
