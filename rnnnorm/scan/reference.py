"""Run the equations over packed rows, step by step, in plain autograd: the truth."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cell import CellNorms, lstm_step
from ..weights import LayerWeights


def scan_reference(
    data: Tensor, batch_sizes: Tensor, h0: Tensor, c0: Tensor, weights: LayerWeights, norms: CellNorms
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer in one direction.

    The input product is taken for all rows at once and split once: indexing it step by step would make the backward
    pass quadratic in T.

    Args:
        data: packed rows (N, I).
        batch_sizes: (T,) int64 on the CPU.
        h0: (B, H) or (B, proj_size), in the order of the packed sequences.
        c0: (B, H).
        weights: of this layer and direction.
        norms: its normalizers.

    Returns:
        Output rows (N, H or proj_size), and h and c of each sequence after its own last step.
    """
    sizes: list[int] = batch_sizes.tolist()
    gates_x = F.linear(data, weights.W_ih)
    if norms.input is not None:
        gates_x = norms.input.sequence(gates_x, sizes)
    if weights.bias is not None:
        gates_x = gates_x + weights.bias
    h, c = h0, c0
    outputs: list[Tensor] = []
    finished: list[tuple[Tensor, Tensor]] = []
    for t, gates in enumerate(gates_x.split_with_sizes(sizes)):
        active = sizes[t]
        if active < h.shape[0]:  # the shortest sequences, which are the last rows, have ended
            finished.append((h[active:], c[active:]))
            h, c = h[:active], c[:active]
        h, c = lstm_step(gates, h, c, weights.W_hh, weights.W_hr, norms, t)
        outputs.append(h)
    finished.append((h, c))
    h_n, c_n = (torch.cat(parts) for parts in zip(*reversed(finished), strict=True))
    return torch.cat(outputs), h_n, c_n
