"""Packing: ragged batches as rows without padding, and back.

Inside the package a batch of B sequences is (data (N, F), batch_sizes (T,)): the rows of step t are the next
`batch_sizes[t]` ones, sequences sorted by length, so that the rows of later steps are a prefix of earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .common.transforms import apart, known, shown, transformed


class InputError(ValueError, RuntimeError):
    """Error for an input that does not fit: a `ValueError`, and a `RuntimeError` as torch raises."""


class Packed(NamedTuple):
    """Packed rows, and how the caller had ordered the sequences.

    Args:
        data: (N, F), time-major.
        batch_sizes: (T,) int64 on the CPU, not increasing: B_t, the active rows of each step.
        sorted_indices: (B,), the caller's number of each packed sequence; None if they are the same.
        unsorted_indices: its inverse.
        batch: B where it is known without looking into `batch_sizes`, which a compiler cannot.
        positions: (N,), where the rows stood among the T·B positions of a padded batch, if they come from one.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None
    batch: int | None = None
    positions: Tensor | None = None

    @property
    def sequences(self) -> int:
        """B."""
        return int(self.batch_sizes[0]) if self.batch is None else self.batch


def pack_dense(input: Tensor) -> Packed:
    """All sequences of one length: (T, B, F) → T·B rows."""
    T, B = input.shape[:2]
    if torch.compiler.is_compiling() or not transformed():
        batch_sizes = torch.full((T,), B, device="cpu")
    else:
        T, B = int(T), int(B)  # constants of the traced program
        with apart():
            batch_sizes = torch.full((T,), B, device="cpu")
    return Packed(input.reshape(T * B, *input.shape[2:]), batch_sizes, batch=B)


def check_packed(rows: int, batch_sizes: Tensor) -> list[int]:
    """Check whether `batch_sizes` (T,) describe packed rows; returns them as a list.

    Args:
        rows: N, packed rows that there are.
        batch_sizes: (T,) int64 on the CPU, positive, not increasing, N in all.

    Raises:
        TypeError: no Tensor.
        InputError: they are not.
    """
    if not isinstance(batch_sizes, Tensor):
        raise TypeError(f"batch_sizes must be a Tensor, got {type(batch_sizes).__name__}")
    if batch_sizes.dtype != torch.int64 or batch_sizes.dim() != 1 or batch_sizes.device.type != "cpu":
        raise InputError(
            f"batch_sizes must be int64 (T,) on the CPU, "
            f"got {batch_sizes.dtype} {tuple(batch_sizes.shape)} on {batch_sizes.device}"
        )
    sizes: list[int] = batch_sizes.tolist()
    check_sizes(rows, sizes)
    return sizes


def check_sizes(rows: int, sizes: list[int]) -> None:
    """Check of `batch_sizes` as a list of rows per step.

    Raises:
        InputError: it is empty, it has an entry below 1 or an increase, or another sum.
    """
    if sizes and sizes[-1] >= 1 and sum(sizes) == rows and sizes == sorted(sizes, reverse=True):
        return
    if not sizes:
        raise InputError("batch_sizes are empty, expected at least one step")
    for t, size in enumerate(sizes):
        if size < 1:
            raise InputError(f"batch_sizes[{t}] = {size}, expected at least 1 row per step")
        if t and size > sizes[t - 1]:
            raise InputError(f"batch_sizes[{t}] = {size} after {sizes[t - 1]}, expected no increase")
    raise InputError(f"batch_sizes add up to {sum(sizes)} rows, but there are {rows}")


def check_order(name: str, order: Tensor, batch: int) -> None:
    """Check of a permutation (B,) of the sequences; values on other devices than the CPU are not read.

    Raises:
        TypeError: no Tensor.
        InputError: it is none.
    """
    if not isinstance(order, Tensor):
        raise TypeError(f"{name} must be a Tensor, got {type(order).__name__}")
    if order.dtype not in (torch.int64, torch.int32) or order.dim() != 1 or order.shape[0] != batch:
        raise InputError(
            f"{name} must be int64 of shape ({batch},), one per sequence, got {order.dtype} {tuple(order.shape)}"
        )
    if order.device.type == "cpu" and sorted(order.tolist()) != list(range(batch)):
        raise InputError(f"{name} must hold each of 0 … {batch - 1} once, got {_shortened(order.tolist())}")


def _shortened(numbers: list[int], most: int = 20) -> str:
    return str(numbers) if len(numbers) <= most else str(numbers[:most])[:-1] + ", …]"


def pack_padded(input: Tensor, lengths: Tensor) -> Packed:
    """Padded sequences (T, B, F) of the given lengths (B,) → Σ lengths rows; what stands in the padding is never read.

    Raises:
        InputError: lengths of the wrong shape or type, below 1, or above T.
    """
    T, B = known(input.shape[:2])
    with apart():
        lengths = lengths if isinstance(lengths, Tensor) else torch.as_tensor(lengths, device="cpu")
        batch_sizes, order, inverse, positions = _layout(lengths, T, B)
    positions, order, inverse = (shown(numbers).to(input.device) for numbers in (positions, order, inverse))
    # One gather: torch's pack_padded_sequence copies step by step, forward and backward.
    rows = input.reshape(T * B, *input.shape[2:]).index_select(0, positions)
    return Packed(rows, batch_sizes, order, inverse, B, positions)


def _layout(lengths: Tensor, T: int, B: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`batch_sizes`, the order of the sequences and its inverse, and where rows stand among the T·B positions."""
    check_kind_of_lengths(lengths, B)
    lengths = lengths.detach().to("cpu", torch.int64)
    check_lengths(lengths.tolist(), T)
    ordered, order = lengths.sort(descending=True)
    active = torch.arange(int(ordered[0]), device="cpu").unsqueeze(1) < ordered
    positions = (torch.arange(active.shape[0], device="cpu").unsqueeze(1) * B + order)[active]
    return active.sum(1), order, order.argsort(), positions


def check_kind_of_lengths(lengths: Tensor, B: int) -> None:
    """Raise InputError unless lengths are integers (B,)."""
    if lengths.dim() != 1 or lengths.shape[0] != B:
        raise InputError(f"lengths must have one entry per sequence, ({B},), got shape {tuple(lengths.shape)}")
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise InputError(f"lengths must be integers, got {lengths.dtype}")


def check_lengths(lengths: list[int], T: int) -> None:
    """Raise InputError unless lengths are between 1 and T."""
    if lengths and not 1 <= min(lengths) <= max(lengths) <= T:
        b, length = next((b, length) for b, length in enumerate(lengths) if not 1 <= length <= T)
        raise InputError(f"lengths[{b}] = {length}, expected between 1 and {T}, the number of steps of the input")


def unpack(packed: Packed, batch_first: bool, total_length: int) -> Tensor:
    """Rows from `pack_padded` → padded (T, B, F) (or batch first) in the caller's order, zeros in the padding."""
    assert packed.positions is not None
    size = (total_length, packed.sequences, *packed.data.shape[1:])
    padded = packed.data.new_zeros(size[0] * size[1], *size[2:]).index_copy(0, packed.positions, packed.data).view(size)
    return padded.transpose(0, 1) if batch_first else padded


def reversal(batch_sizes: Tensor) -> Tensor:
    """Row numbers (N,) that turn each sequence around within its own length; applying them twice changes nothing."""
    with apart():
        offsets = torch.cumsum(batch_sizes, 0) - batch_sizes
        sequence = row_sequences(batch_sizes)
        mirrored = sequence_lengths(batch_sizes)[sequence] - 1 - row_steps(batch_sizes)
        rows = offsets[mirrored] + sequence
    return shown(rows)


def sequence_lengths(batch_sizes: Tensor) -> Tensor:
    """Lengths (B,) of the packed sequences, longest first."""
    with apart():
        lengths = (batch_sizes.unsqueeze(1) > torch.arange(int(batch_sizes[0]), device="cpu")).sum(0)
    return shown(lengths)


def row_steps(batch_sizes: Tensor) -> Tensor:
    """The timestep of each packed row, (N,)."""
    with apart():
        steps = torch.repeat_interleave(torch.arange(batch_sizes.shape[0], device="cpu"), batch_sizes)
    return shown(steps)


def row_sequences(batch_sizes: Tensor) -> Tensor:
    """The sequence of each packed row, (N,)."""
    with apart():
        offsets = torch.cumsum(batch_sizes, 0) - batch_sizes
        steps = row_steps(batch_sizes)
        sequences = torch.arange(steps.shape[0], device="cpu") - offsets[steps]
    return shown(sequences)


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
