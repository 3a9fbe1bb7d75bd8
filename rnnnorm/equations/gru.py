"""The GRU."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .base import Equations, Layer, LayerWeights


class GRUEquations(Equations):
    """One step of a GRU, gates in torch's order r, z, n.

        x, u = N_input(W_ih x_t), N_hidden(W_hh h_{t-1})                          each (3H,)
        r, z = σ(N_joint(x_rz + u_rz) + b_rz)
        n    = tanh(N_candidate(x_n + r ⊙ (u_n + b_hn)) + b_n)
        h_t  = N_output((1 - z) ⊙ n + z ⊙ h_{t-1})

    N_input and N_hidden see the 3H features at once, as N_x and N_h of an LSTM see its 4H; the authors of layer
    normalization normalize r, z (2H) and n (H) apart in their GRU code, which is another model. b_hn is multiplied by
    r, so it is not redundant beside b and stays, also with normalizers: H parameters more than G·H.

    The sum of a GRU's candidate exists only after r, so `joint` stands for two normalizers of one kind: N_joint on the
    2H features of r, z and N_candidate on the H features of n, the split of that GRU code.
    """

    name = "GRU"
    gates = 3
    forget = 1
    torch_operator = "gru"

    def step(self, layer: Layer, gates_x: Tensor, states: tuple[Tensor, ...], t: int) -> tuple[Tensor, ...]:
        """h_t; see `Equations.step`."""
        (h,) = states
        norms, (b, b_hn) = layer.norms, layer.split
        H = h.shape[1]
        x, x_n = gates_x.split_with_sizes((2 * H, H), 1)
        u, u_n = layer.gates_h(h, t).split_with_sizes((2 * H, H), 1)
        gates = x + u
        if norms.joint is not None:
            gates = norms.joint(gates, t)
            gates = gates if b is None else gates + b[: 2 * H]
        r, z = gates.sigmoid().chunk(2, 1)
        candidate = x_n + r * (u_n if b_hn is None else u_n + b_hn)
        if norms.candidate is not None:
            candidate = norms.candidate(candidate, t)
            candidate = candidate if b is None else candidate + b[2 * H :]
        h = (1 - z) * layer.drop(candidate.tanh()) + z * h
        return (h if norms.output is None else norms.output(h, t),)

    def sizes(self) -> dict[str, tuple[int, bool]]:
        """For each place, how many blocks of H features its rows have and whether its normalizer learns a bias."""
        return {**super().sizes(), "joint": (2, False), "candidate": (1, False)}

    def biases(self, hidden_size: int, pair: bool) -> dict[str, int]:
        """Names and lengths of the biases: torch's pair, or b and b_hn."""
        return super().biases(hidden_size, pair) | ({} if pair else {"bias_hn": hidden_size})

    def split_biases(self, weights: LayerWeights) -> tuple[Tensor | None, Tensor | None]:
        """B (3H,) and b_hn (H,)."""
        if len(weights.biases) < 2:
            return (weights.biases[0], weights.bias_hn) if weights.biases else (None, None)
        bias_ih, bias_hh = weights.biases
        H = bias_hh.shape[0] // 3
        return bias_ih + F.pad(bias_hh[: 2 * H], (0, H)), bias_hh[2 * H :]

    def merge_biases(self, bias_ih: Tensor, bias_hh: Tensor) -> dict[str, Tensor]:
        """Torch's pair as b and b_hn."""
        H = bias_hh.shape[0] // 3
        return {"bias_ih": bias_ih + F.pad(bias_hh[: 2 * H], (0, H)), "bias_hn": bias_hh[2 * H :]}
