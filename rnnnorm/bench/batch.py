"""Data that all contenders of one contest are given."""

from __future__ import annotations

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from .shapes import Shape, draw_lengths


class Batch:
    """One batch of random sequences, padded and packed, with the gradient of the loss at every output.

    The loss is Σ output ⊙ w with a fixed random w, zero in the padding; its gradient is w, so that the backward pass
    starts from `output.backward(w)` and the loss itself costs nothing.

    Args:
        shape: T, B, I, H.
        lengths: a name out of `rnnnorm.bench.shapes.LENGTHS`.
        device: where it lives.
        seed: of numbers and lengths.

    Attributes:
        lengths: (B,) on the CPU, or None for a dense batch.
        padded: (T, B, I), a leaf that wants a gradient.
        padded_weight: w, (T, B, H).
        packed: the same sequences, their rows (N, I) a leaf that wants a gradient.
        packed_weight: w, (N, H).
        batch_sizes: active rows per step.
    """

    def __init__(self, shape: Shape, lengths: str, device: torch.device, seed: int = 0) -> None:
        self.shape, self.device = shape, device
        random = torch.Generator().manual_seed(seed)
        padded = torch.randn(shape.T, shape.B, shape.I, generator=random)
        weight = torch.randn(shape.T, shape.B, shape.H, generator=random)
        self.lengths = draw_lengths(lengths, shape, seed)
        lengths_ = torch.full((shape.B,), shape.T) if self.lengths is None else self.lengths
        outside = torch.arange(shape.T).unsqueeze(1) >= lengths_
        padded[outside], weight[outside] = 0.0, 0.0
        packed = pack_padded_sequence(padded, lengths_, enforce_sorted=False)
        order = [None if indices is None else indices.to(device) for indices in packed[2:]]
        self.packed = PackedSequence(packed.data.to(device).requires_grad_(), packed.batch_sizes, *order)
        self.packed_weight = pack_padded_sequence(weight, lengths_, enforce_sorted=False).data.to(device)
        self.batch_sizes: list[int] = packed.batch_sizes.tolist()
        self.padded = padded.to(device).requires_grad_()
        self.padded_weight = weight.to(device)
