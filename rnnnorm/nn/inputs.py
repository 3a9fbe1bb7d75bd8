"""Inputs of recurrent networks: any accepted form → packed rows, and back."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from ..packing import InputError, Packed, check_order, check_packed, pack_dense, pack_padded, unpack

__all__ = ["InputError", "enter", "enter_states", "leave", "leave_states"]


def enter(input: Tensor | PackedSequence, lengths: Tensor | None, input_size: int, batch_first: bool) -> Packed:
    """Turn any accepted input into packed rows.

    Raises:
        TypeError: neither Tensor nor PackedSequence.
        InputError: a shape that does not fit, or a PackedSequence that contradicts itself.
        ValueError: lengths beside a PackedSequence or an unbatched input.
    """
    if isinstance(input, PackedSequence):
        if lengths is not None:
            raise ValueError("lengths are given, but a PackedSequence carries its own")
        check_rows(input.data, input_size)
        return _enter_packed(input)
    padded = enter_padded(input, lengths, input_size, batch_first)
    return pack_dense(padded) if lengths is None else pack_padded(padded, lengths)


def check_rows(data: Tensor, input_size: int) -> None:
    """Raise TypeError unless packed rows are a tensor, and InputError unless it is (N, F), not quantized."""
    if not isinstance(data, Tensor):
        raise TypeError(f"the data of a PackedSequence must be a Tensor, got {type(data).__name__}")
    check_not_quantized("input", data)
    if data.dim() != 2 or data.shape[-1] != input_size:
        raise InputError(f"expected rows of {input_size} features, got {tuple(data.shape)}")


def check_not_quantized(name: str, tensor: Tensor) -> None:
    """Raise InputError for a quantized tensor: some views of one end the process as soon as they are copied."""
    if tensor.is_quantized:
        raise InputError(f"{name} is quantized, {tensor.dtype}: use {name}.dequantize()")


def enter_padded(input: Tensor, lengths: Tensor | None, input_size: int, batch_first: bool) -> Tensor:
    """Dense or padded input as (T, B, F).

    Raises:
        TypeError: no Tensor.
        InputError: a shape that does not fit.
    """
    if not isinstance(input, Tensor):
        raise TypeError(f"expected a Tensor or PackedSequence, got {type(input).__name__}")
    check_not_quantized("input", input)
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
    return input


def _enter_packed(input: PackedSequence) -> Packed:
    """Its rows with a copy of `batch_sizes`: the caller may change his before the backward pass reads them."""
    data, batch_sizes, sorted_indices, unsorted_indices = input
    batch = check_packed(data.shape[0], batch_sizes)[0]
    for name, order in (("sorted_indices", sorted_indices), ("unsorted_indices", unsorted_indices)):
        if order is not None:
            check_order(name, order, batch)
            if order.device != data.device:
                raise InputError(f"{name} is on {order.device}, the data are on {data.device}")
    return Packed(data, batch_sizes.clone(), sorted_indices, unsorted_indices, batch)


def leave(
    input: Tensor | PackedSequence, lengths: Tensor | None, packed: Packed, data: Tensor, batch_first: bool
) -> Tensor | PackedSequence:
    """Output rows (N, F) in the form that the input had."""
    if isinstance(input, PackedSequence):
        return PackedSequence(data, *input[1:])
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
