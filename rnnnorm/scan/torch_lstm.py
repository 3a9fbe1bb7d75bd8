"""Where nothing is normalized inside the recurrence, torch's own LSTM is the fastest correct path."""

from __future__ import annotations

import torch
from torch import Tensor

from ..cell import CellNorms
from ..weights import LayerWeights


def supports(norms: CellNorms) -> bool:
    """Only layers without a normalizer on activations; weight normalization is composed before the scan."""
    return not norms.any()


def scan_torch(
    data: Tensor, batch_sizes: Tensor, h0: Tensor, c0: Tensor, weights: LayerWeights, norms: CellNorms
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer in one direction through the operator behind `torch.nn.LSTM`; arguments as in `scan_reference`."""
    biases = list(weights.biases)
    if len(biases) == 1:
        biases.append(torch.zeros_like(biases[0]))
    flat = [weights.W_ih, weights.W_hh, *biases] + ([] if weights.W_hr is None else [weights.W_hr])
    state = [h0.unsqueeze(0), c0.unsqueeze(0)]
    options = (flat, bool(biases), 1, 0.0, torch.is_grad_enabled(), False)
    T, B = batch_sizes.shape[0], int(batch_sizes[0])
    if data.shape[0] == T * B:  # the dense operator is several times faster than the packed one on a CPU
        output, h_n, c_n = torch._VF.lstm(data.view(T, B, -1), state, *options, False)
        output = output.reshape(T * B, -1)
    else:
        output, h_n, c_n = torch._VF.lstm(data, batch_sizes, state, *options)
    return output, h_n.squeeze(0), c_n.squeeze(0)
