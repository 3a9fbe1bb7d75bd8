"""Checks of tensors for compiled code: dense memory of a known device, shape and type."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from ..common.transforms import plain
from ..equations import Layer
from ..packing import InputError


def fits(layer: Layer, data: Tensor, device: str, typed: bool = True) -> bool:
    """Whether rows (N, I) are `plain` and all weights, gains and biases dense and of the shapes of the equations.

    What has another shape may broadcast, or be an error: both are for torch's operators to say, and so is what comes of
    no rows at all.

    Args:
        layer: the cell, its weights and normalizers.
        data: the rows.
        device: where all of them must be, "cpu" or "cuda".
        typed: all must have the type of the rows, too.
    """
    W_ih, W_hh, biases, W_hr, bias_hn, peepholes = layer.weights
    if not plain(data, device) or data.dim() != 2 or W_ih.dim() != 2:
        return False
    (N, I), gates, G = data.shape, W_ih.shape[0], layer.cell.gates  # noqa: E741
    H = gates // G
    if not N or not I or not H or gates != H * G:
        return False
    vector = (gates,)
    expected: list[tuple[Any, tuple[int, ...]]] = [(W_ih, (gates, I))]
    if W_hr is None:
        expected.append((W_hh, (gates, H)))
    else:
        if not W_hr.dim():
            return False
        projected = W_hr.shape[0]
        expected += (W_hh, (gates, projected)), (W_hr, (projected, H))
    for bias in biases:
        expected.append((bias, vector))
    if bias_hn is not None:
        expected.append((bias_hn, (H,)))
    for peephole in peepholes or ():
        expected.append((peephole, (H,)))
    sizes = layer.cell.sizes()
    for name, norm in layer.norms._modules.items():
        if norm is not None:
            features = (sizes[name][0] * H,)
            for parameter in (norm.gain, norm.bias):
                if parameter is not None:
                    expected.append((parameter, features))
            if isinstance(getattr(norm, "alpha", None), Tensor):
                expected.append((norm.alpha, (1,)))
    dtype, place = data.dtype, data.device
    for tensor, shape in expected:
        kind = type(tensor)
        if (
            (kind is not Parameter and kind is not Tensor and (tensor is None or not plain(tensor, device)))
            or tensor.shape != shape
            or (typed and tensor.dtype is not dtype)
            or tensor.device != place
            or tensor.layout is not torch.strided
            or tensor.is_neg()
        ):
            return False
    return True


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


def address(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, place: str = "") -> int:
    """Address of a tensor for compiled code; `place` is the normalizer that it belongs to, if any.

    Raises:
        InputError: it is not contiguous memory of that shape and type, or its memory has been taken away.
    """
    if tensor.shape == shape and tensor.dtype is dtype and tensor.is_cpu and tensor.is_contiguous():
        pointer = tensor.data_ptr()
        if pointer and not tensor.is_neg():
            return pointer
    found = f"{tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"
    raise InputError(
        f"{name}{place and ' at ' + place}: expected contiguous {dtype} of shape {tuple(shape)} in the CPU's memory, "
        f"got {found}{'' if tensor.numel() and tensor.data_ptr() else ' without memory'}"
    )
