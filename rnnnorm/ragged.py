"""Ragged batches as packed rows: the border between tensors with padding and rows without.

Inside the package a batch of B sequences is (data (N, F), batch_sizes (T,)): the rows of step t are the next
`batch_sizes[t]` ones, sequences sorted by length, so that the rows of later steps are a prefix of earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Packed(NamedTuple):
    """Packed rows, and how the caller had ordered the sequences.

    Args:
        data: (N, F), time-major.
        batch_sizes: (T,) int64 on the CPU, not increasing: B_t, the active rows of each step.
        sorted_indices: (B,), the caller's number of each packed sequence; None if they are the same.
        unsorted_indices: its inverse.
        batch: B where it is known without looking into `batch_sizes`, which a compiler cannot.
        cells: (N,), where the rows stood among the T·B cells of a padded batch, if they come from one.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None
    batch: int | None = None
    cells: Tensor | None = None

    @property
    def sequences(self) -> int:
        """B."""
        return int(self.batch_sizes[0]) if self.batch is None else self.batch


def check_packed(rows: int, batch_sizes: Tensor) -> None:
    """Raise ValueError unless batch_sizes describe so many packed rows."""
    if int(batch_sizes.sum()) != rows:
        raise ValueError(f"batch_sizes sum up to {int(batch_sizes.sum())}, but there are {rows} rows")


def pack_dense(input: Tensor) -> Packed:
    """All sequences of one length: (T, B, F) → T·B rows."""
    T, B = input.shape[:2]
    return Packed(input.reshape(T * B, *input.shape[2:]), torch.full((T,), B), batch=B)


def pack_padded(input: Tensor, lengths: Tensor) -> Packed:
    """Padded sequences (T, B, F) of the given lengths (B,) → Σ lengths rows; what stands in the padding is never read.

    Raises:
        ValueError: lengths of the wrong shape, below 1, or above T.
    """
    T, B = input.shape[:2]
    lengths = torch.as_tensor(lengths)
    if lengths.dim() != 1 or lengths.shape[0] != B:
        raise ValueError(f"lengths must have one entry per sequence, ({B},), got shape {tuple(lengths.shape)}")
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise ValueError(f"lengths must be integers, got {lengths.dtype}")
    lengths = lengths.detach().to("cpu", torch.int64)
    for b, length in enumerate(lengths.tolist()):
        if not 1 <= length <= T:
            raise ValueError(f"lengths[{b}] = {length}, expected between 1 and {T}, the number of steps of the input")
    ordered, order = lengths.sort(descending=True)
    active = torch.arange(int(ordered[0])).unsqueeze(1) < ordered
    # One gather: torch's pack_padded_sequence copies step by step, forward and backward.
    cells = (torch.arange(active.shape[0]).unsqueeze(1) * B + order)[active].to(input.device)
    rows = input.reshape(T * B, *input.shape[2:]).index_select(0, cells)
    return Packed(rows, active.sum(1), order.to(input.device), order.argsort().to(input.device), B, cells)


def unpack(packed: Packed, batch_first: bool, total_length: int) -> Tensor:
    """What `pack_padded` packed → padded (T, B, F) (or batch first) in the caller's order, zeros in the padding."""
    assert packed.cells is not None
    size = (total_length, packed.sequences, *packed.data.shape[1:])
    padded = packed.data.new_zeros(size[0] * size[1], *size[2:]).index_copy(0, packed.cells, packed.data).view(size)
    return padded.transpose(0, 1) if batch_first else padded


def reversal(batch_sizes: Tensor) -> Tensor:
    """Row numbers (N,) that turn each sequence around within its own length; applying them twice changes nothing."""
    offsets = torch.cumsum(batch_sizes, 0) - batch_sizes
    sequence = row_sequences(batch_sizes)
    mirrored = sequence_lengths(batch_sizes)[sequence] - 1 - row_steps(batch_sizes)
    return offsets[mirrored] + sequence


def sequence_lengths(batch_sizes: Tensor) -> Tensor:
    """Lengths (B,) of the packed sequences, longest first."""
    return (batch_sizes.unsqueeze(1) > torch.arange(int(batch_sizes[0]))).sum(0)


def row_steps(batch_sizes: Tensor) -> Tensor:
    """The timestep of each packed row, (N,)."""
    return torch.repeat_interleave(torch.arange(batch_sizes.shape[0]), batch_sizes)


def row_sequences(batch_sizes: Tensor) -> Tensor:
    """The sequence of each packed row, (N,)."""
    offsets = torch.cumsum(batch_sizes, 0) - batch_sizes
    steps = row_steps(batch_sizes)
    return torch.arange(steps.shape[0]) - offsets[steps]


def merge(batches: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Several packed batches as one, longest sequences first.

    Args:
        batches: `batch_sizes` (T_k,) of each.

    Returns:
        which of all sequences, counted batch after batch, comes at each place of the one batch, (B,);
        its `batch_sizes`; and which of all rows, counted likewise, is each of its rows, (N,).
    """
    lengths = torch.cat([sequence_lengths(sizes) for sizes in batches])
    lengths, order = lengths.sort(descending=True, stable=True)
    batch_sizes = (lengths.unsqueeze(0) > torch.arange(int(lengths[0])).unsqueeze(1)).sum(1)
    own = torch.cat([torch.arange(int(sizes[0])) for sizes in batches])  # number of each sequence inside its batch
    batch = torch.repeat_interleave(torch.arange(len(batches)), torch.tensor([int(sizes[0]) for sizes in batches]))
    starts = torch.zeros(len(batches), batch_sizes.shape[0], dtype=torch.int64)  # of each batch's rows of each step
    first = 0
    for k, sizes in enumerate(batches):
        starts[k, : sizes.shape[0]] = first + torch.cumsum(sizes, 0) - sizes
        first += int(sizes.sum())
    sequence = order[row_sequences(batch_sizes)]
    return order, batch_sizes, starts[batch[sequence], row_steps(batch_sizes)] + own[sequence]
