"""What compiled code may read and write through an address: dense memory of a known device, shape and type."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..equations import Layer
from ..ragged import InputError
from ..transforms import plain


def fits(layer: Layer, data: Tensor, device: str, typed: bool = True) -> bool:
    """Whether rows (N, I) and all weights, gains and biases are `plain` and have the shapes of the equations.

    What has another shape may broadcast, or be an error: both are for torch's operators to say, and so is what comes of
    no rows at all.

    Args:
        layer: the cell, its weights and normalizers.
        data: the rows.
        device: where all of them must be, "cpu" or "cuda".
        typed: all must have the type of the rows, too.
    """
    W_ih, W_hh, biases, W_hr, bias_hn, _ = layer.weights
    if not plain(data, device) or data.dim() != 2 or 0 in data.shape or W_ih.dim() != 2:
        return False
    gates = W_ih.shape[0]
    H, rest = divmod(gates, layer.cell.gates)
    if not H or rest:
        return False
    found: list[tuple[Any, tuple[int, ...]]] = [(W_ih, (gates, data.shape[1])), *((b, (gates,)) for b in biases)]
    projected = H
    if W_hr is not None:
        projected = W_hr.shape[0]
        found.append((W_hr, (projected, H)))
    found.append((W_hh, (gates, projected)))
    if bias_hn is not None:
        found.append((bias_hn, (H,)))
    for name, norm in layer.norms.named_children():
        vector, bias = (H if name in ("cell", "output") else gates,), norm.bias
        found.append((norm.gain, vector))
        if bias is not None:
            found.append((bias, vector))
    dtype, index = data.dtype, data.device
    return all(
        tensor is not None
        and plain(tensor, device)
        and tensor.shape == shape
        and (not typed or tensor.dtype is dtype)
        and (device == "cpu" or tensor.device == index)
        for tensor, shape in found
    )


def check_states(layer: Layer, batch: int, states: tuple[Tensor, ...]) -> None:
    """Whether the states have one row per sequence and the features of the weights, (B, ·) each.

    Raises:
        InputError: they have not.
    """
    W_ih, W_hh, *_ = layer.weights
    sizes = (W_hh.shape[1], W_ih.shape[0] // layer.cell.gates)
    for name, state, size in zip(layer.cell.states, states, sizes, strict=False):
        if state.shape != (batch, size):
            raise InputError(f"expected {name}_0 of shape {(batch, size)}, got {tuple(state.shape)}")


def address(name: str, tensor: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Where compiled code finds a tensor; 0 for None.

    Raises:
        InputError: it is not contiguous memory of that shape and type, or its memory has been taken away.
    """
    if tensor is None:
        return 0
    if tensor.shape != shape or tensor.dtype is not dtype or not plain(tensor) or not tensor.is_contiguous():
        raise InputError(
            f"{name}: expected contiguous {dtype} of shape {tuple(shape)} on the CPU, got {tensor.dtype} of shape "
            f"{tuple(tensor.shape)} on {tensor.device} ({type(tensor).__name__})"
        )
    end = (tensor.storage_offset() + tensor.numel()) * tensor.element_size()
    if tensor.untyped_storage().nbytes() < end:
        raise InputError(f"{name}: its memory has {tensor.untyped_storage().nbytes()} bytes, but {end} are needed")
    return tensor.data_ptr()
