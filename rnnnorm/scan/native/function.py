"""The compiled scan as a function that autograd knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from ...common.transforms import plain, transformed
from ...equations import Layer
from ...packing import check_packed
from ..checks import check_states, fits
from ..fold import fold
from ..plan import Plan, agrees, applies, make_plan
from ..plan import plain as plain_layer
from ..reference import scan_reference
from .library import library
from .masks import draw
from .replay import replay
from .run import DTYPES, Inputs, Run


def variant(layer: Layer) -> str:
    """Name of the library that runs a layer."""
    return "plain" if plain_layer(layer.cell, layer.norms, layer.noise) and agrees(layer) else layer.cell.name


def ready(layer: Layer, data: Tensor) -> bool:
    """Whether this call can be made: on plain tensors on a CPU, in 32 or 64 bits of one type, with a compiler at hand.

    Where operators are traced or transformed, or a weight has another shape than the equations, the others must run.
    """
    return (
        data.dtype in DTYPES
        and not transformed()
        and not torch.is_autocast_enabled("cpu")
        and fits(layer, data, "cpu")
        and applies(layer)
        and (layer.weights.W_hr is None or not (layer.noise.any() or layer.mask is not None))
        and (layer.mask is None or layer.mask.dtype is data.dtype)
        and library(variant(layer)) is not None
    )


def scan_native(
    layer: Layer, data: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer in one direction; arguments as in `scan_reference`.

    Raises:
        InputError: states or `batch_sizes` that do not fit the rows.
    """
    for state in states:
        if state.dtype is not data.dtype or not plain(state):
            return scan_reference(layer, data, batch_sizes, states)  # which says what is wrong
    sizes = check_packed(data.shape[0], batch_sizes)
    check_states(layer, sizes[0], states)
    plan = make_plan(layer)
    own = plan.own_steps_by_place(sizes)
    weights = layer.weights
    W_ih, (bias, bias_hn) = weights.W_ih, _biases(layer, plan)
    if plan.input is not None and plan.input.whole:
        W_ih, bias = fold(plan.input, data, W_ih, bias)
        plan = replace(plan, input=None)
    peepholes = None if weights.peepholes is None else torch.cat(weights.peepholes)
    affine: list[Tensor | None] = []
    for name, place in plan.places.items():
        affine += [place.gain, place.bias if name in ("cell", "output") else None, place.alpha]
    h_0, c_0 = states if len(states) > 1 else (*states, None)
    tensors = [
        data,
        h_0,
        c_0,
        W_ih,
        weights.W_hh,
        bias,
        bias_hn,
        peepholes,
        weights.W_hr,
        *draw(layer, data, sizes),
        *affine,
    ]
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    run = Run(variant(layer), layer.cell, layer.noise, plan, sizes, own, save)
    if save:
        out, *last = _Scan.apply(run, *tensors)  # type: ignore[no-untyped-call]
    else:
        out, *last = run.forward(_inputs(tensors))
    return out, tuple(last)


def _biases(layer: Layer, plan: Plan) -> tuple[Tensor | None, Tensor | None]:
    """B (G·H,) and a GRU's b_hn (H,); behind a normalizer of the gates its bias is one more b."""
    b, b_hn = layer.split
    for name, place in plan.places.items():
        bias = place.bias
        if bias is None or name in ("cell", "output"):
            continue
        if layer.cell.name == "GRU":
            H = layer.weights.W_ih.shape[0] // 3
            if name == "joint":
                bias = F.pad(bias, (0, H))
            elif name == "candidate":
                bias = F.pad(bias, (2 * H, 0))
            elif name == "hidden":
                inside, bias = bias[2 * H :], F.pad(bias[: 2 * H], (0, H))
                b_hn = inside if b_hn is None else b_hn + inside
        b = bias if b is None else b + bias
    return b, b_hn


def _inputs(tensors: Sequence[Any]) -> Inputs:
    values: list[Any] = [t if t is None or t.is_contiguous() else t.contiguous() for t in tensors]
    return Inputs.of(values)


class _Scan(Function):
    """Differentiable once in compiled code; derivatives of derivatives are those of plain operators."""

    @staticmethod
    def forward(ctx: Any, run: Run, *tensors: Tensor | None) -> Any:
        ctx.run = run
        ctx.set_materialize_grads(False)
        results = run.forward(_inputs(tensors))
        # What was kept is saved like any tensor, so that it is free once backward has been, whoever holds the loss.
        ctx.save_for_backward(*tensors, results[0], run.give_kept())
        return results

    @staticmethod
    def backward(ctx: Any, *given: Tensor | None) -> Any:
        *tensors, out, kept = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1:]
        # Batched gradients, as of `jacobian(vectorize=True)`, are no memory that could be read.
        if torch.is_grad_enabled() or transformed() or not all(g is None or plain(g) for g in given):
            gradients = _differentiable(ctx.run, tensors, given, wanted)
        else:
            contiguous = [g if g is None or g.is_contiguous() else g.contiguous() for g in given]
            gradients = ctx.run.backward(_inputs(tensors), out, kept, contiguous, wanted)
        return (None, *gradients)


def _differentiable(
    run: Run, tensors: Sequence[Any], given: Sequence[Tensor | None], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients by torch's operators: as functions of the inputs, where a graph is wanted."""
    # Some inputs may depend on others, as folded weights do on x: each is to have its own path only.
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        own: list[Any] = [None if t is None else t.view_as(t) for t in tensors]
        results = replay(run, Inputs.of(own))
    pairs = [(r, g) for r, g in zip(results, given, strict=True) if g is not None]
    sources = [t for t, want in zip(own, wanted, strict=True) if want and t is not None]
    outputs, weights = [r for r, _ in pairs], [g for _, g in pairs]
    found = iter(torch.autograd.grad(outputs, sources, weights, create_graph=create_graph, allow_unused=True))
    return [next(found) if want and t is not None else None for t, want in zip(own, wanted, strict=True)]
