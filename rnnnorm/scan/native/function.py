"""The compiled scan as a function that autograd knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ...equations import Layer, LayerWeights
from ..fold import fold, foldable
from ..plan import applies, make_plan
from ..reference import scan_reference
from .library import library
from .run import DTYPES, Inputs, Run


def ready(layer: Layer, data: Tensor) -> bool:
    """Whether this call can be made: on a CPU, in 32 or 64 bits, with a compiler at hand."""
    tensors = [data, layer.weights.W_ih, layer.weights.W_hh]
    return (
        data.device.type == "cpu"
        and data.dtype in DTYPES
        and all(t.dtype == data.dtype for t in tensors)
        and not torch.is_autocast_enabled("cpu")
        and applies(layer)
        and foldable(layer)
        and library() is not None
    )


def scan_native(
    layer: Layer, data: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer in one direction; arguments as in `scan_reference`."""
    plan = make_plan(layer)
    sizes: list[int] = batch_sizes.tolist()
    own = plan.own_steps(sizes)
    W_ih, bias = layer.weights.W_ih, layer.weights.bias
    if plan.input is not None and plan.input.whole:
        W_ih, bias = fold(plan.input, data, W_ih, bias)
        plan, layer = replace(plan, input=None), replace(layer, norms=layer.norms.without_input())
    affine = [tensor for place in plan.places.values() for tensor in (place.gain, place.bias)]
    tensors = [data, *states, W_ih, layer.weights.W_hh, bias, *affine]
    if not (torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)):
        run = Run(plan, batch_sizes, sizes, own, save=False)
        out, h_n, c_n = run.forward(_inputs(tensors))
    else:
        out, h_n, c_n = _Scan.apply(layer, Run(plan, batch_sizes, sizes, own, save=True), *tensors)  # type: ignore[no-untyped-call]
    return out, (h_n, c_n)


def _inputs(tensors: Sequence[Any]) -> Inputs:
    values: list[Any] = [None if t is None else t.detach().contiguous() for t in tensors]
    x, h_0, c_0, W_ih, W_hh, bias, *affine = values
    return Inputs(x, h_0, c_0, W_ih, W_hh, bias, tuple(affine))


class _Scan(Function):
    """Differentiable once in compiled code; derivatives of derivatives take the reference's way."""

    @staticmethod
    def forward(ctx: Any, layer: Layer, run: Run, *tensors: Tensor | None) -> Any:
        ctx.layer, ctx.run = layer, run
        ctx.set_materialize_grads(False)
        results = ctx.run.forward(_inputs(tensors))
        ctx.save_for_backward(*tensors, *results)
        return results

    @staticmethod
    def backward(ctx: Any, *given: Tensor | None) -> Any:
        *tensors, out, h_n, c_n = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradients = _differentiable(ctx, tensors, given)
        else:
            contiguous = [None if g is None else g.contiguous() for g in given]
            gradients = ctx.run.backward(_inputs(tensors), (out, h_n, c_n), contiguous, ctx.needs_input_grad[2:])
        return (None, None, *gradients)


def _differentiable(ctx: Any, tensors: Sequence[Any], given: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    """The gradients as functions of the inputs, by the reference.

    It is run again on the weights at hand and on the normalizers' own parameters; autograd being at work, they know
    that this batch has been counted.
    """
    x, h_0, c_0, W_ih, W_hh, bias = tensors[:6]
    weights = LayerWeights(W_ih, W_hh, () if bias is None else (bias,))
    out, states = scan_reference(replace(ctx.layer, weights=weights), x, ctx.run.batch_sizes, (h_0, c_0))
    pairs = [(r, g) for r, g in zip((out, *states), given, strict=True) if g is not None]
    wanted = [t for t, need in zip(tensors, ctx.needs_input_grad[2:], strict=True) if need and t is not None]
    found = iter(
        torch.autograd.grad([r for r, _ in pairs], wanted, [g for _, g in pairs], create_graph=True, allow_unused=True)
    )
    return [
        next(found) if need and t is not None else None
        for t, need in zip(tensors, ctx.needs_input_grad[2:], strict=True)
    ]
