"""Building blocks of the kernels: operations on one tile of gates or cells, (rows, gates, units).

A program holds a tile of R rows, all four gates and U hidden units. With moments over rows the tile has all active rows
of a step; with moments over features it has all units of a row. Either way no reduction leaves the program. Lanes of
padding hold zeros where they enter a sum.
"""
# mypy: ignore-errors
# Triton compiles these functions from their source; their types are not Python's.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def split_gates(x, R: tl.constexpr, U: tl.constexpr):
    """(R, 4, U) → i, f, g, o, each (R, U)."""
    x = tl.reshape(tl.permute(x, (0, 2, 1)), (R, U, 2, 2))
    even, odd = tl.split(x)
    i, g = tl.split(even)
    f, o = tl.split(odd)
    return i, f, g, o


@triton.jit
def join_gates(i, f, g, o, R: tl.constexpr, U: tl.constexpr):
    """i, f, g, o, each (R, U) → (R, 4, U)."""
    x = tl.join(tl.join(i, g), tl.join(f, o))
    return tl.permute(tl.reshape(x, (R, U, 4)), (0, 2, 1))


@triton.jit
def tanh(x):
    """tanh, accurate near 0, too, where the formula with exp cancels: there Lambert's continued fraction."""
    z = tl.abs(x)
    s = tl.minimum(z, 0.5) * tl.minimum(z, 0.5)
    near = x * (135135 + s * (17325 + s * (378 + s))) / (135135 + s * (62370 + s * (3150 + s * 28)))
    e = tl.exp(-2 * z)
    far = (1 - e) / (1 + e)
    return tl.where(z < 0.5, near, tl.where(x < 0, -far, far))


@triton.jit
def average(x, mask, count, BY_ROW: tl.constexpr, GROUPS: tl.constexpr):
    """Mean of a tile (R, G, U) over rows, (1, G, U); or over the features of a group, (R, GROUPS, 1)."""
    x = tl.where(mask, x, 0.0)
    if BY_ROW:
        total = tl.sum(x, 2, keep_dims=True)
        if GROUPS == 1:
            total = tl.sum(total, 1, keep_dims=True)
    else:
        total = tl.sum(x, 0, keep_dims=True)
    return total / count


@triton.jit
def moments(x, mask, count, BY_ROW: tl.constexpr, GROUPS: tl.constexpr, CENTERED: tl.constexpr):
    """Mean and biased variance in two passes; mean 0 and mean square where rows are not centered."""
    mean = average(x, mask, count, BY_ROW, GROUPS)
    if not CENTERED:
        mean = tl.zeros_like(mean)
    return mean, average((x - mean) * (x - mean), mask, count, BY_ROW, GROUPS)


@triton.jit
def norm_gradient(
    dy,
    x_hat,
    scale,
    gain,
    mask,
    count,
    OWN: tl.constexpr,
    BY_ROW: tl.constexpr,
    GROUPS: tl.constexpr,
    CENTERED: tl.constexpr,
):
    """Gradient of x from that of y = gain · x_hat, x_hat = (x - mean) · scale; stored moments are constants."""
    d_hat = dy * gain
    dx = d_hat
    if OWN:
        dx -= x_hat * average(d_hat * x_hat, mask, count, BY_ROW, GROUPS)
        if CENTERED:
            dx -= average(d_hat, mask, count, BY_ROW, GROUPS)
    return tl.where(mask, dx * scale, 0.0)


@triton.jit
def accumulate(total, value, row, feature, mask, feature_mask, F: tl.constexpr, BY_ROW: tl.constexpr):
    """Add the gradient of a gain or bias of one step: per sequence (B, F), or summed over the rows of the step (F,).

    Each number belongs to one program and steps follow each other, so the sum is the same in every run.
    """
    if BY_ROW:
        at = row[:, None, None] * F + feature
        tl.store(total + at, tl.load(total + at, mask=mask, other=0.0) + value, mask=mask)
    else:
        value = tl.sum(tl.where(mask, value, 0.0), 0, keep_dims=True)
        tl.store(total + feature, tl.load(total + feature, mask=feature_mask, other=0.0) + value, mask=feature_mask)


@triton.jit
def hidden_product(
    h,
    weight,
    at,
    row_mask,
    H: tl.constexpr,
    R: tl.constexpr,
    U: tl.constexpr,
    K: tl.constexpr,
    PRECISION: tl.constexpr,
    WORK: tl.constexpr,
):
    """W_hh h for R rows of h (·, H) from row numbers `at`, and the gates of this program's units: (R, 4, U)."""
    column = tl.arange(0, 4 * U)
    unit = tl.program_id(0) * U + column % U
    total = tl.zeros((R, 4 * U), dtype=WORK)
    for start in range(0, H, K):
        k = start + tl.arange(0, K)
        a = tl.load(h + at[:, None] * H + k[None, :], mask=row_mask[:, None] & (k < H)[None, :], other=0.0)
        b = tl.load(
            weight + ((column // U) * H + unit)[None, :] * H + k[:, None],
            mask=(unit < H)[None, :] & (k < H)[:, None],
            other=0.0,
        )
        total = tl.dot(a.to(b.dtype), b, total, input_precision=PRECISION, out_dtype=WORK)
    return tl.reshape(total, (R, 4, U))


@triton.jit
def state_product(
    d_gates,
    weight,
    at,
    row_mask,
    unit,
    H: tl.constexpr,
    R: tl.constexpr,
    U: tl.constexpr,
    K: tl.constexpr,
    PRECISION: tl.constexpr,
    WORK: tl.constexpr,
):
    """W_hhᵀ d for R rows of d (·, 4H) from row numbers `at`, and this program's units: (R, U)."""
    total = tl.zeros((R, U), dtype=WORK)
    for start in range(0, 4 * H, K):
        k = start + tl.arange(0, K)
        a = tl.load(
            d_gates + at[:, None] * (4 * H) + k[None, :], mask=row_mask[:, None] & (k < 4 * H)[None, :], other=0.0
        )
        b = tl.load(weight + k[:, None] * H + unit[None, :], mask=(k < 4 * H)[:, None] & (unit < H)[None, :], other=0.0)
        total = tl.dot(a, b, total, input_precision=PRECISION, out_dtype=WORK)
    return total


@triton.jit
def finish_step(counter, TOGETHER: tl.constexpr):
    """Make what this step wrote visible to the next one inside the same launch.

    Within a program a barrier of its threads is enough. Where programs read each other's rows (TOGETHER) they count
    themselves in and wait for the last one, for which all of them must be on the device at once.
    """
    tl.debug_barrier()
    if TOGETHER:
        programs = tl.num_programs(0) * tl.num_programs(1)
        arrived = tl.atomic_add(counter, 1, sem="acq_rel")
        wanted = (arrived // programs + 1) * programs
        arrived += 1
        while arrived < wanted:
            arrived = tl.atomic_add(counter, 0, sem="acquire")
        tl.debug_barrier()
