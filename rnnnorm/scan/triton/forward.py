"""The forward steps of an LSTM, product, normalizers and gates in one kernel."""
# mypy: ignore-errors
# Triton compiles these functions from their source; their types are not Python's.

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import finish_step, hidden_product, moments, split_gates, tanh


@triton.jit(do_not_specialize=["first", "last"])
def forward_steps(
    offsets,
    gates_x,
    raw,
    h,
    c,
    kept,
    weight,
    gain,
    bias,
    mean,
    var,
    cell_gain,
    cell_bias,
    cell_mean,
    cell_var,
    counter,
    first,
    last,
    H: tl.constexpr,
    R: tl.constexpr,
    U: tl.constexpr,
    K: tl.constexpr,
    PRODUCT: tl.constexpr,
    PRECISION: tl.constexpr,
    TOGETHER: tl.constexpr,
    OWN: tl.constexpr,
    BY_ROW: tl.constexpr,
    NORM: tl.constexpr,
    GROUPS: tl.constexpr,
    CENTERED: tl.constexpr,
    EPS: tl.constexpr,
    CELL: tl.constexpr,
    CELL_CENTERED: tl.constexpr,
    CELL_EPS: tl.constexpr,
    CARRIED: tl.constexpr,
):
    """Run the steps first … last - 1; `Recurrence` says what each tensor holds.

    Rows of states begin with those of step -1, so that step t reads from `offsets[t]` and writes from `offsets[t + 1]`;
    rows of gates begin with step 0, `offsets[1]` rows later.
    """
    WORK: tl.constexpr = c.dtype.element_ty
    row = tl.program_id(1) * R + tl.arange(0, R)
    unit = tl.program_id(0) * U + tl.arange(0, U)
    known = unit < H
    feature = tl.arange(0, 4)[None, :, None] * H + unit[None, None, :]
    initial = tl.load(offsets + 1)
    for step in range(first, last):
        before, start = tl.load(offsets + step), tl.load(offsets + step + 1)
        active = tl.load(offsets + step + 2) - start
        live = (row < active)[:, None] & known[None, :]
        at = (start + row)[:, None] * H + unit[None, :]
        number = start - initial + row
        live_gates = live[:, None, :]
        at_gates = number[:, None, None] * (4 * H) + feature

        if PRODUCT:
            x = hidden_product(h, weight, before + row, row < active, H, R, U, K, PRECISION, WORK)
        else:
            x = tl.load(raw + at_gates, mask=live_gates, other=0.0).to(WORK)
        from_x = tl.load(gates_x + at_gates, mask=live_gates, other=0.0).to(WORK)
        if NORM != "hidden":
            x += from_x
        # Rounded as it is stored, so that the backward pass finds the numbers that were used.
        x = x.to(raw.dtype.element_ty)
        if PRODUCT or NORM != "hidden":
            tl.store(raw + at_gates, x, mask=live_gates)
        x = x.to(WORK)

        if NORM != "none":
            if BY_ROW:
                at_moments = number[:, None, None] * GROUPS + tl.arange(0, GROUPS)[None, :, None]
                moments_mask = (row < active)[:, None, None]
                count = 4 * H // GROUPS
            else:
                at_moments = step * (4 * H) + feature
                moments_mask = known[None, None, :]
                count = active.to(WORK)
            if OWN:
                mu, variance = moments(x, live_gates, count, BY_ROW, GROUPS, CENTERED)
                tl.store(mean + at_moments, mu, mask=moments_mask)
                tl.store(var + at_moments, variance, mask=moments_mask)
            else:
                mu = tl.load(mean + at_moments, mask=moments_mask, other=0.0)
                variance = tl.load(var + at_moments, mask=moments_mask, other=1.0)
            g = tl.load(gain + feature, mask=known[None, None, :], other=0.0)
            x = (x - mu) * tl.rsqrt(variance + EPS) * g
            if NORM == "hidden":
                x += from_x
            if bias is not None:
                x += tl.load(bias + feature, mask=known[None, None, :], other=0.0)

        a_i, a_f, a_g, a_o = split_gates(x, R, U)
        old = kept if CARRIED else c
        c_before = tl.load(old + (before + row)[:, None] * H + unit[None, :], mask=live, other=0.0)
        cell = tl.sigmoid(a_f) * c_before + tl.sigmoid(a_i) * tanh(a_g)
        tl.store(c + at, cell, mask=live)
        if CELL:
            cells = cell[:, None, :]
            if BY_ROW:
                at_moments = number[:, None, None]
                moments_mask = (row < active)[:, None, None]
                count = H
            else:
                at_moments = step * H + unit[None, None, :]
                moments_mask = known[None, None, :]
                count = active.to(WORK)
            if OWN:
                mu, variance = moments(cells, live_gates, count, BY_ROW, 1, CELL_CENTERED)
                tl.store(cell_mean + at_moments, mu, mask=moments_mask)
                tl.store(cell_var + at_moments, variance, mask=moments_mask)
            else:
                mu = tl.load(cell_mean + at_moments, mask=moments_mask, other=0.0)
                variance = tl.load(cell_var + at_moments, mask=moments_mask, other=1.0)
            cells = (cells - mu) * tl.rsqrt(variance + CELL_EPS)
            cell = tl.reshape(cells, (R, U)) * tl.load(cell_gain + unit, mask=known, other=0.0)[None, :]
            if cell_bias is not None:
                cell += tl.load(cell_bias + unit, mask=known, other=0.0)[None, :]
            if CARRIED:
                tl.store(kept + at, cell, mask=live)
        tl.store(h + at, (tl.sigmoid(a_o) * tanh(cell)).to(h.dtype.element_ty), mask=live)
        finish_step(counter, TOGETHER)


INTERPRETED = not isinstance(forward_steps, triton.JITFunction)
"""Whether kernels are interpreted on the CPU: fixed when they are defined, by the environment of that moment."""
