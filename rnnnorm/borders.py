"""The border of the recurrent layers: any accepted input → packed rows, and back."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .ragged import Packed, pack_dense, pack_padded, unpack


class InputError(ValueError, RuntimeError):
    """An input whose shape or type does not fit; a RuntimeError, too, as torch raises."""


def enter(input: Tensor | PackedSequence, lengths: Tensor | None, input_size: int, batch_first: bool) -> Packed:
    """Turn any accepted input into packed rows.

    Raises:
        TypeError: neither Tensor nor PackedSequence.
        InputError: a shape that does not fit.
        ValueError: lengths that do not fit.
    """
    if isinstance(input, PackedSequence):
        if lengths is not None:
            raise ValueError("lengths are given, but a PackedSequence carries its own")
        packed = Packed(*input)
        if packed.data.dim() != 2 or packed.data.shape[-1] != input_size:
            raise InputError(f"expected rows of {input_size} features, got {tuple(packed.data.shape)}")
        return packed
    if not isinstance(input, Tensor):
        raise TypeError(f"expected a Tensor or PackedSequence, got {type(input).__name__}")
    if input.dim() not in (2, 3) or input.shape[-1] != input_size:
        order = "(B, T, F)" if batch_first else "(T, B, F)"
        raise InputError(f"expected input {order} or (T, F) with F = {input_size}, got shape {tuple(input.shape)}")
    if input.dim() == 2:
        if lengths is not None:
            raise ValueError("lengths are given, but the input is unbatched: (T, F)")
        input = input.unsqueeze(1)
    elif batch_first:
        input = input.transpose(0, 1)
    if 0 in input.shape[:2]:
        raise InputError(f"expected at least one step and one sequence, got T, B = {tuple(input.shape[:2])}")
    return pack_dense(input) if lengths is None else pack_padded(input, lengths)


def leave(
    input: Tensor | PackedSequence, lengths: Tensor | None, packed: Packed, data: Tensor, batch_first: bool
) -> Tensor | PackedSequence:
    """Output rows (N, F) in the form that the input had."""
    if isinstance(input, PackedSequence):
        return PackedSequence(data, *packed[1:4])
    if lengths is not None:
        return unpack(packed._replace(data=data), batch_first, input.shape[1 if batch_first else 0])
    if input.dim() == 2:
        return data
    output = data.view(packed.batch_sizes.shape[0], -1, data.shape[1])
    return output.transpose(0, 1) if batch_first else output


def enter_states(
    states: Sequence[Tensor], names: Sequence[str], sizes: Sequence[int], count: int, packed: Packed, unbatched: bool
) -> tuple[Tensor, ...]:
    """Given states (count, B, ·), in packed order.

    Raises:
        InputError: a shape that does not fit.
    """
    B = packed.sequences
    entered = []
    for name, state, size in zip(names, states, sizes, strict=True):
        expected = (count, size) if unbatched else (count, B, size)
        if tuple(state.shape) != expected:
            raise InputError(f"expected {name}_0 of shape {expected}, got {tuple(state.shape)}")
        state = state.unsqueeze(1) if unbatched else state
        entered.append(state if packed.sorted_indices is None else state[:, packed.sorted_indices])
    return tuple(entered)


def leave_states(states: Sequence[Tensor], packed: Packed, unbatched: bool) -> tuple[Tensor, ...]:
    """Last states (count, B, ·) in the caller's order."""
    if unbatched:
        return tuple(state.squeeze(1) for state in states)
    order = packed.unsorted_indices
    return tuple(states) if order is None else tuple(state[:, order] for state in states)
