"""Packed batches from lists of sequences, without padding in between."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from rnnnorm.data.base import Batch, Task

Example = tuple[Tensor, Tensor]
"""One sequence: its rows, (T, K) int64 token ids or (T, F) float32 features, and its target: T rows of it, or one."""

PER_ROW: frozenset[Task] = frozenset({"tagging", "language-modelling", "multi-label"})
"""The tasks whose target has one entry for each row of the input."""


def collate(examples: Sequence[Example], task: Task) -> Batch:
    """Pack sequences of different lengths into one batch, longest first.

    Sequences of equal length keep the order they came in. Rows go straight to their place in time-major order:
    row n = (t, b) of the batch is row t of sequence b, found at offset_b + t of the concatenated sequences. A padded
    (T, B, F) tensor never exists, so its size does not limit how ragged a batch may be.

    Args:
        examples: (input, target) pairs; targets have one row per input row if the task is in `PER_ROW`.
        task: see `rnnnorm.data.Spec`.

    Returns:
        a `Batch`: `target` follows the order of the sequences, or of the rows of `input.data`.

    Raises:
        ValueError: there is no sequence, a sequence has no rows, or a sequence has not as many targets as rows.
    """
    if not examples:
        raise ValueError("cannot make a batch of no sequences: at least one is needed")
    lengths = torch.tensor([len(rows) for rows, _ in examples])
    if not lengths.all():
        raise ValueError(f"sequence {lengths.tolist().index(0)} of the {len(examples)} in this batch has no rows")
    lengths, order = lengths.sort(descending=True, stable=True)
    ordered = [examples[i] for i in order.tolist()]
    batch_sizes = _batch_sizes(lengths)
    rows = _time_major(lengths, batch_sizes)
    packed = PackedSequence(torch.cat([rows_ for rows_, _ in ordered])[rows], batch_sizes)
    if task not in PER_ROW:
        return Batch(packed, torch.stack([target for _, target in ordered]))
    for index, (rows_, target) in zip(order.tolist(), ordered, strict=True):
        if target.ndim == 0 or len(target) != len(rows_):
            raise ValueError(
                f"sequence {index} of this batch has {len(rows_)} rows and targets of shape {tuple(target.shape)}: "
                f"{task} needs one target per row"
            )
    return Batch(packed, torch.cat([target for _, target in ordered])[rows])


def _batch_sizes(lengths: Tensor) -> Tensor:
    """Count the sequences still running at each step: B_t = #{b: length_b > t}."""
    ends = torch.bincount(lengths)  # ends[l]: sequences of length l
    return len(lengths) - ends.cumsum(0)[:-1]


def _time_major(lengths: Tensor, batch_sizes: Tensor) -> Tensor:
    """Where each time-major row lies in the concatenation of the sequences, (N,)."""
    offsets = lengths.cumsum(0) - lengths
    starts = batch_sizes.cumsum(0) - batch_sizes
    steps = torch.repeat_interleave(torch.arange(len(batch_sizes)), batch_sizes)
    sequences = torch.arange(len(steps)) - starts[steps]
    return offsets[sequences] + steps
