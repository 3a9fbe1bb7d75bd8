"""`torch.nn.RNN` with normalizers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..equations import NONLINEARITIES, RNNEquations
from ..norms.places import Norm
from .options import Options
from .recurrent import Recurrent


class RNN(Recurrent[Tensor]):
    """A (multi-layer, bidirectional) plain RNN with normalizers, as `torch.nn.RNN` otherwise.

        h_t = N_output(φ(N_joint(N_input(W_ih x_t) + N_hidden(W_hh h_{t-1})) + b))

    With `norm="none"` it has `torch.nn.RNN`'s parameters, names and results. Places, presets, ragged batches and
    options are those of `rnnnorm.LSTM`. There is no cell state, so presets drop their normalizer of it (and those which
    have no other are refused), and nothing is added to the old state, so `recurrent_dropout` is refused.

    Args:
        input_size: features per row.
        hidden_size: H.
        num_layers: layers, each reading the one before.
        nonlinearity: φ: "tanh", "relu", or "identity", the linear RNN.
        bias: learn b.
        batch_first: dense and padded tensors are (B, T, F) instead of (T, B, F).
        dropout: on the rows that leave each layer but the last, in training.
        bidirectional: add a second, independent direction per layer, outputs concatenated.
        device: where parameters live.
        dtype: their type.
        norm: a preset, with overrides, or a `Norm`.
        max_steps: T_max, slots of per-timestep statistics.
        init: "torch" or "orthogonal" (orthogonal W_hh, Glorot-uniform W_ih, biases 0).
        initial_state: "zeros", or "learned" (parameter `h_0`).
        initial_state_noise: s; adds N(0, s²) to h_0 in training where `hx` is omitted.
        residual: "none", "plain", "skipinit", "fixup": as `rnnnorm.LSTM`.
        residual_scale: initial α.
        between_on: "branch" or "sum".
        variational_dropout: on rows, one mask per sequence.
        hidden_dropout: on h_{t-1} where W_hh reads it, one mask per sequence.
        recurrent_dropout: must be 0: dropping h_t would be loss of memory (Semeniuta et al. 2016).
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
        >>> rnn = RNN(10, 20, nonlinearity="relu", norm="bn-timestep")
        >>> output, h_n = rnn(torch.randn(50, 3, 10))
        >>> output.shape, h_n.shape
        (torch.Size([50, 3, 20]), torch.Size([1, 3, 20]))
    """

    torch_class = nn.RNN
    variants: ClassVar = {f"rnn-{name}": {"nonlinearity": name} for name in NONLINEARITIES}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
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
            RNNEquations(nonlinearity),
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
