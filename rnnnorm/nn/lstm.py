"""`torch.nn.LSTM` with normalizers: layers, directions, ragged batches, states."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..equations import LSTMEquations
from ..norms.places import Norm
from .options import Options
from .recurrent import Recurrent


class LSTM(Recurrent[tuple[Tensor, Tensor]]):
    """A (multi-layer, bidirectional) LSTM with normalizers, as `torch.nn.LSTM` otherwise.

        a_t = N_joint(N_input(W_ih x_t) + N_hidden(W_hh h_{t-1})) + b         i, f, o = σ(·)   g = tanh(·)
        c_t = f ⊙ c_{t-1} + i ⊙ g          h_t = N_output(o ⊙ tanh(N_cell(c_t)))

    With `norm="none"` it has `torch.nn.LSTM`'s parameters, names and results. Sequences of different lengths go in as a
    PackedSequence or with `lengths=`; padding never enters a statistic, a state or a gradient. In the reverse direction
    step t counts from each sequence's own end.

    Args:
        input_size: features per row.
        hidden_size: H.
        num_layers: layers, each reading the one before.
        bias: learn b. With a norm there is one bias vector per layer, `bias_ih_l{k}`; without, torch's pair.
        batch_first: dense and padded tensors are (B, T, F) instead of (T, B, F).
        dropout: on the rows that leave each layer but the last, in training (Zaremba et al. 2014).
        bidirectional: add a second, independent direction per layer, outputs concatenated.
        proj_size: if above 0, h_t is projected to that size.
        device: where parameters live.
        dtype: their type.
        norm: a preset out of `rnnnorm.presets()`, with overrides (`"bn-timestep:gain=1.0"`), or a `Norm`.
        max_steps: T_max, slots of per-timestep statistics and of `init="chrono"`; best the longest training sequence.
        init: "torch" (uniform ±1/√H), "orthogonal" (orthogonal W_hh per gate, forget bias 1), or "chrono" (the same
            with biases that spread the memory of the units over 1 … T_max steps; Tallec & Ollivier 2018).
        initial_state: "zeros", or "learned" (parameters `h_0`, `c_0`), used where `hx` is omitted.
        initial_state_noise: s; adds N(0, s²) to h_0 in training where `hx` is omitted. It removes steps at which all
            rows agree, whose normalization multiplies gradients by g/√ε (Cooijmans et al. use 0.1 on MNIST).
        peepholes: gates see the cell state through `weight_ci`, `weight_cf`, `weight_co` (H,) (Gers & Schmidhuber
            2000), outside all normalizers.
        residual: h^l = h^{l-1} + α_l·LSTM_l(h^{l-1}): "plain" (α = 1), "skipinit" or "fixup" (α learned); see
            `rnnnorm.nn.residual.Skip`. The first layer has no skip if its input and output sizes differ.
        residual_scale: initial α: by default 0 for "skipinit" and 1 for "fixup"; "depth" is 1/√(layers with a skip).
        between_on: whether a norm between layers, and only it, acts on the "branch" before the skip is added or on
            the "sum"; dropout always acts on the branch.
        variational_dropout: on the rows that enter each layer and leave the last, one mask per sequence for all steps
            (Gal & Ghahramani 2016; the "locked" dropout of Merity et al. 2018).
        hidden_dropout: on h_{t-1} where W_hh reads it, one mask per sequence: the recurrent part of Gal & Ghahramani.
        recurrent_dropout: on the update g_t, a mask per step (Semeniuta et al. 2016).
        weight_dropout: on W_hh, one mask per forward pass (Merity et al. 2018).
        zoneout: probability that an entry of a state keeps its old value, one for both or (h, c) (Krueger et al. 2017;
            0.05 and 0.5 on character PTB). In evaluation the expectation takes its place; other dropout is off.
        backend: "auto" takes the fastest that covers the layer: "native" (compiled at first use, on CPUs), "torch"
            (its own operators, where nothing is normalized), "triton" (on GPUs), or "reference" (eager, covers
            everything). The attribute `ran` says which it was.

    Shape:
        input: PackedSequence; (T, B, input_size), with `lengths` or dense; or (T, input_size).
        hx: (h_0, c_0) of shapes (layers·directions, B, proj_size or H) and (layers·directions, B, H), without B for
            unbatched input.
        output: as the input, with directions·(proj_size or H) features and zeros in the padding.
        (h_n, c_n): each sequence's state after its own last step, shapes as `hx`.

    Raises:
        ValueError: an argument or shape that does not fit.

    Example:
        >>> lstm = LSTM(10, 20, num_layers=2, batch_first=True, norm="bn-timestep", max_steps=50)
        >>> x = torch.randn(3, 50, 10)
        >>> output, (h_n, c_n) = lstm(x, lengths=torch.tensor([50, 7, 23]))
        >>> output.shape, h_n.shape
        (torch.Size([3, 50, 20]), torch.Size([2, 3, 20]))
    """

    torch_class = nn.LSTM
    variants: ClassVar = {"lstm": {}}

    # Torch's own, for code that calls them: they look at sizes alone.
    get_expected_cell_size = nn.LSTM.get_expected_cell_size
    check_forward_args = nn.LSTM.check_forward_args  # type: ignore[assignment]
    permute_hidden = nn.LSTM.permute_hidden  # type: ignore[assignment]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | Norm = "none",
        max_steps: int = 100,
        init: str = "torch",
        initial_state: str = "zeros",
        initial_state_noise: float = 0.0,
        peepholes: bool = False,
        residual: str = "none",
        residual_scale: float | str | None = None,
        between_on: str = "branch",
        variational_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float | tuple[float, float] = 0.0,
        backend: str = "auto",
    ) -> None:
        super().__init__(
            LSTMEquations(peepholes),
            Options(
                input_size=input_size, hidden_size=hidden_size, num_layers=num_layers, bias=bias,
                batch_first=batch_first, dropout=dropout, bidirectional=bidirectional, proj_size=proj_size,
                device=device, dtype=dtype, norm=norm, max_steps=max_steps, init=init, initial_state=initial_state,
                initial_state_noise=initial_state_noise, residual=residual, residual_scale=residual_scale,
                between_on=between_on, variational_dropout=variational_dropout, hidden_dropout=hidden_dropout,
                recurrent_dropout=recurrent_dropout, weight_dropout=weight_dropout, zoneout=zoneout, backend=backend,
            ),
        )  # fmt: skip
