"""Batch normalization per step of the input term: all steps in one launch, since none depends on another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ..plan import Place
from .column_moments import observe_tail, settle
from .framewise_kernels import framewise_backward, framewise_forward
from .function import SECOND_ORDER, on_device
from .launches import TILE


class FramewiseFunction(torch.autograd.Function):
    """x (N, F), gain (F,) → y (N, F): each step's rows by their own moments, or by stored ones from step `own` on."""

    @staticmethod
    def forward(ctx: Any, place: Place, sizes: tuple[int, ...], own: int, x: Tensor, gain: Tensor) -> Tensor:
        """Normalize, tell the moments to the normalizer, and take from it those it has stored."""
        T, F = len(sizes), x.shape[1]
        offsets = on_device((0, *accumulate(sizes)), x.device)
        y = torch.empty_like(x)
        mean, var = (gain.new_empty(T, F) for _ in range(2))
        grid, constants = _cut(sizes[0], F, place.eps)

        def run(first: int, last: int, moments_of_their_own: bool) -> None:
            if first < last:
                steps = (last - first, grid)
                framewise_forward[steps](offsets, x, y, gain, mean, var, first, OWN=moments_of_their_own, **constants)

        run(0, own, True)
        settle(place, sizes, own, mean, var)
        run(own, T, False)
        observe_tail(place, sizes, own, x)
        ctx.save_for_backward(offsets, x, gain, mean, var)
        ctx.place, ctx.sizes, ctx.own = place, sizes, own
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and of the gain.

        Raises:
            RuntimeError: with create_graph=True.
        """
        if torch.is_grad_enabled():
            raise RuntimeError(SECOND_ORDER)
        offsets, x, gain, mean, var = ctx.saved_tensors
        dx, d_gain = torch.empty_like(x), torch.empty_like(mean)
        grid, constants = _cut(ctx.sizes[0], x.shape[1], ctx.place.eps)
        for first, last, own in ((0, ctx.own, True), (ctx.own, len(ctx.sizes), False)):
            if first < last:
                steps = (last - first, grid)
                framewise_backward[steps](
                    offsets, x, dy.contiguous(), dx, gain, mean, var, d_gain, first, OWN=own, **constants
                )
        return None, None, None, dx, d_gain.sum(0)


def framewise(place: Place, x: Tensor, sizes: Sequence[int], own: int) -> Tensor:
    """Output of the normalizer of `place` for packed rows x (N, F); its statistics are moved."""
    assert place.gain is not None
    gain = place.gain.to(torch.promote_types(x.dtype, torch.float32))
    y: Tensor = FramewiseFunction.apply(place, tuple(sizes), own, x, gain)  # type: ignore[no-untyped-call]
    return y if place.bias is None else y + place.bias.to(y.dtype)


def _cut(rows: int, features: int, eps: float) -> tuple[int, dict[str, Any]]:
    """Programs per step, and what kernels are compiled for: a tile has all rows of a step and some of its features."""
    high = max(16, 1 << (rows - 1).bit_length())
    units = max(1, min(64, TILE // high))
    constants = {"F": features, "R": high, "U": units, "EPS": eps, "num_warps": min(16, max(4, high * units // 1024))}
    return -(-features // units), constants | {"enable_fp_fusion": True}
