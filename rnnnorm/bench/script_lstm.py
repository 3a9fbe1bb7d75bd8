"""LayerNorm-LSTM in TorchScript, as commonly written: a peer for comparison."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from ..nn.lstm import LSTM


class ScriptCell(nn.Module):
    """One step, in the usual way: two products, three layer normalizations, gates in the order i, f, g, o.

        a = LN(W_ih x_t) + LN(W_hh h_{t-1}) + b
        c_t = σ(f) ⊙ c_{t-1} + σ(i) ⊙ tanh(g)          h_t = σ(o) ⊙ tanh(LN(c_t))

    The same function as `rnnnorm.LSTM` with norm="ln" (Ba et al. 2016).

    Args:
        input_size: I.
        hidden_size: H.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        self.norm_input = nn.LayerNorm(4 * hidden_size, bias=False)
        self.norm_hidden = nn.LayerNorm(4 * hidden_size, bias=False)
        self.norm_cell = nn.LayerNorm(hidden_size)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """h_t and c_t from x_t (B, I) and the states before, each (B, H)."""
        h, c = state
        gates_x = self.norm_input(torch.mm(x, self.weight_ih.t()))
        gates_h = self.norm_hidden(torch.mm(h, self.weight_hh.t()))
        i, f, g, o = (gates_x + gates_h + self.bias).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(self.norm_cell(c))
        return h, c


class ScriptLSTM(nn.Module):
    """The cell over all steps of a dense batch.

    Args:
        input_size: I.
        hidden_size: H.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = ScriptCell(input_size, hidden_size)

    def forward(self, input: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(T, B, I) → (T, B, H) and the last states, each (B, H)."""
        zeros = torch.zeros(input.shape[1], self.hidden_size, dtype=input.dtype, device=input.device)
        state = (zeros, zeros)
        outputs: list[Tensor] = []
        for x in input.unbind(0):
            state = self.cell(x, state)
            outputs.append(state[0])
        return torch.stack(outputs), state


def script_lstm(source: LSTM) -> nn.Module:
    """The compiled peer, with the weights of a single-layer `rnnnorm.LSTM`; its normalizers start at gain 1, bias 0.

    Args:
        source: where weights and bias come from, under any norm that keeps one bias; its normalizers are not read.

    Raises:
        ValueError: more than one layer or direction, a projection, or no bias.
    """
    if source.num_states != 1 or source.proj_size or not source.bias:
        raise ValueError("the TorchScript peer has one layer, one direction, a bias and no projection")
    peer = ScriptLSTM(source.input_size, source.hidden_size)
    weights = source.layer_weights("_l0")
    assert weights.bias is not None
    with torch.no_grad():
        peer.cell.weight_ih.copy_(weights.W_ih)
        peer.cell.weight_hh.copy_(weights.W_hh)
        peer.cell.bias.copy_(weights.bias)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is on its way out; people still run such code
        scripted: nn.Module = torch.jit.script(peer)
    return scripted.to(weights.W_hh.device)
