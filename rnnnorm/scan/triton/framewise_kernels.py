"""Kernels of batch normalization per step: a program has some features of all rows of one step."""
# mypy: ignore-errors
# Triton compiles these functions from their source; their types are not Python's.

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import moments, norm_gradient


@triton.jit(do_not_specialize=["first"])
def framewise_forward(
    offsets,
    x,
    y,
    gain,
    mean,
    var,
    first,
    F: tl.constexpr,
    R: tl.constexpr,
    U: tl.constexpr,
    OWN: tl.constexpr,
    EPS: tl.constexpr,
):
    """Step first + program: y = gain · (x - mean) / √(var + ε), where moments are stored or read."""
    step = first + tl.program_id(0)
    start = tl.load(offsets + step)
    active = tl.load(offsets + step + 1) - start
    row = tl.arange(0, R)
    feature = (tl.program_id(1) * U + tl.arange(0, U))[None, None, :]
    known = feature < F
    live = (row < active)[:, None, None] & known
    at = (start + row)[:, None, None] * F + feature
    g = tl.load(gain + feature, mask=known, other=0.0)
    rows = tl.load(x + at, mask=live, other=0.0).to(g.dtype)
    if OWN:
        mu, variance = moments(rows, live, active.to(g.dtype), False, 1, True)
        tl.store(mean + step * F + feature, mu, mask=known)
        tl.store(var + step * F + feature, variance, mask=known)
    else:
        mu = tl.load(mean + step * F + feature, mask=known, other=0.0)
        variance = tl.load(var + step * F + feature, mask=known, other=1.0)
    tl.store(y + at, ((rows - mu) * tl.rsqrt(variance + EPS) * g).to(y.dtype.element_ty), mask=live)


@triton.jit(do_not_specialize=["first"])
def framewise_backward(
    offsets,
    x,
    dy,
    dx,
    gain,
    mean,
    var,
    d_gain,
    first,
    F: tl.constexpr,
    R: tl.constexpr,
    U: tl.constexpr,
    OWN: tl.constexpr,
    EPS: tl.constexpr,
):
    """Gradient of x, and of the gain by step, (T, F)."""
    step = first + tl.program_id(0)
    start = tl.load(offsets + step)
    active = tl.load(offsets + step + 1) - start
    row = tl.arange(0, R)
    feature = (tl.program_id(1) * U + tl.arange(0, U))[None, None, :]
    known = feature < F
    live = (row < active)[:, None, None] & known
    at = (start + row)[:, None, None] * F + feature
    g = tl.load(gain + feature, mask=known, other=0.0)
    mu = tl.load(mean + step * F + feature, mask=known, other=0.0)
    scale = tl.rsqrt(tl.load(var + step * F + feature, mask=known, other=1.0) + EPS)
    x_hat = (tl.load(x + at, mask=live, other=0.0).to(g.dtype) - mu) * scale
    gradient = tl.load(dy + at, mask=live, other=0.0).to(g.dtype)
    tl.store(d_gain + step * F + feature, tl.sum(gradient * x_hat, 0, keep_dims=True), mask=known)
    gradient = norm_gradient(gradient, x_hat, scale, g, live, active.to(g.dtype), OWN, False, 1, True)
    tl.store(dx + at, gradient.to(dx.dtype.element_ty), mask=live)
