"""A network of one's own: an LSTM whose states are weighted by attention, for one target per sequence.

    rnnnorm compare --data Names --data-dir data --model.network attention_network.AttentionNetwork --norms none,ln

from the folder in which this file lies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import rnnnorm


class AttentionNetwork(nn.Module):
    """Mean of the states of an LSTM, weighted by additive attention (Bahdanau, Cho and Bengio, ICLR 2015).

        w_t = softmax_t(v · tanh(W h_t))      output = Σ_t w_t h_t

    Args:
        input_size: features per row.
        hidden_size: H.
        norm: of the LSTM.
        max_steps: of the LSTM.
        width: of W h.
    """

    def __init__(self, input_size: int, hidden_size: int, norm: str, max_steps: int, width: int = 16) -> None:
        super().__init__()
        self.output_size = hidden_size
        self.lstm = rnnnorm.LSTM(input_size, hidden_size, batch_first=True, norm=norm, max_steps=max_steps)
        self.score = nn.Sequential(nn.Linear(hidden_size, width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, F), padded, and lengths (B,) on the CPU → (B, H)."""
        states, _ = self.lstm(x, lengths=lengths)
        padding = torch.arange(x.shape[1]) >= lengths[:, None]
        scores = self.score(states)[..., 0].masked_fill(padding.to(x.device), -torch.inf)
        return (scores.softmax(1)[..., None] * states).sum(1)
