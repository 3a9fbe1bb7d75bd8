"""Sequence-wise batch normalization of W_ih x as another weight matrix and bias: then there is nothing to normalize."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ..norms.synchronized import SynchronizedNormalizer
from .plan import Place


class _Covariance(Function):
    """C = cᵀ c / N of centered rows c (N, I), in 64 bits.

    Where features go together, σ² is a small difference of large entries of C; its gradient is not.
    """

    @staticmethod
    def forward(ctx: Any, centered: Tensor) -> Tensor:
        ctx.save_for_backward(centered)
        wide = centered.double()
        return wide.t() @ wide / centered.shape[0]

    @staticmethod
    def backward(ctx: Any, d_C: Tensor) -> Tensor:
        (centered,) = ctx.saved_tensors
        symmetric: Tensor = (d_C + d_C.t()) / centered.shape[0]
        d_centered: Tensor = centered @ symmetric.to(centered.dtype)
        return d_centered


def _variance(centered: Tensor, W: Tensor) -> Tensor:
    """σ² (4H,) of W x, the cheaper way: by covariance or, where rows are few and features many, by the products."""
    (N, I), F = centered.shape, W.shape[0]  # noqa: E741
    if N * F <= 2 * I * (N + F):  # 64 bits take twice as long
        return (centered @ W.t()).square().mean(0)
    C, wide = _Covariance.apply(centered), W.double()  # type: ignore[no-untyped-call]
    var: Tensor = ((wide @ C) * wide).sum(1).clamp(min=0)
    return var.to(W.dtype)


def fold(place: Place, x: Tensor, W: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """The W' and b' with W' x + b' = g ⊙ (W x - μ) / √(σ² + ε) + b.

    Over all rows μ = W m and σ²_j = w_j C w_jᵀ, where m and C are mean and covariance of the rows of x. So moments of
    the N × 4H products need no products: C costs N·I² operations instead of several passes over N·4H numbers. It is
    differentiable; the normalizer observes and recalls stored moments.

    Args:
        place: a place with `whole` statistics.
        x: packed rows (N, I).
        W: W_ih (4H, I).
        bias: b (4H,), or None.
    """
    assert place.columns is not None
    assert place.gain is not None
    N = x.shape[0]
    if isinstance(place.columns, SynchronizedNormalizer) and place.columns.synchronizes():
        m = x.mean(0)
        own = (W @ m).unsqueeze(0), _variance(x - m, W).unsqueeze(0)
        mean, var = (moment[0].to(x.dtype) for moment in place.columns.pooled(*own, 0, [N]))
    elif place.columns.own_steps([N]):
        m = x.mean(0)
        mean, var = W @ m, _variance(x - m, W)
        place.columns.observe(0, [N], mean.detach().unsqueeze(0), var.detach().unsqueeze(0))
    else:
        if place.columns.wants_moments():  # too few rows to be normalized by, but they count
            rows = x.detach() @ W.detach().t()
            place.columns.observe(0, [N], rows.mean(0, keepdim=True), rows.var(0, correction=0, keepdim=True))
        mean, var = (moment[0].to(x.dtype) for moment in place.columns.recall(0, 1))
    scale = place.gain * torch.rsqrt(var + place.eps)
    shift = -mean * scale
    return W * scale.unsqueeze(1), shift if bias is None else bias + shift
