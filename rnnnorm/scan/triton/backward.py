"""The backward steps of an LSTM: product, gates and normalizers in one kernel."""
# mypy: ignore-errors
# Triton compiles these functions from their source; their types are not Python's.

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import accumulate, finish_step, join_gates, norm_gradient, split_gates, state_product, tanh


@triton.jit(do_not_specialize=["first", "last"])
def backward_steps(
    offsets,
    gates_x,
    raw,
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
    d_rows,
    d_h,
    d_c,
    d_raw,
    d_gates_x,
    d_gain,
    d_bias,
    d_cell_gain,
    d_cell_bias,
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
    """Run the steps last - 1 … first; `Recurrence` says what each tensor holds, and `forward_steps` how rows lie.

    Gates are computed again from what the forward pass stored: reading them would cost more than the arithmetic.
    """
    WORK: tl.constexpr = c.dtype.element_ty
    row = tl.program_id(1) * R + tl.arange(0, R)
    unit = tl.program_id(0) * U + tl.arange(0, U)
    known = unit < H
    known_gates = known[None, None, :]
    feature = tl.arange(0, 4)[None, :, None] * H + unit[None, None, :]
    initial = tl.load(offsets + 1)
    for back in range(first, last):
        step = first + last - 1 - back
        before, start, after = tl.load(offsets + step), tl.load(offsets + step + 1), tl.load(offsets + step + 2)
        active, following = after - start, tl.load(offsets + step + 3) - after
        live = (row < active)[:, None] & known[None, :]
        at = (start + row)[:, None] * H + unit[None, :]
        at_state = row[:, None] * H + unit[None, :]
        number = start - initial + row
        live_gates = live[:, None, :]
        at_gates = number[:, None, None] * (4 * H) + feature

        x = tl.load(raw + at_gates, mask=live_gates, other=0.0).to(WORK)
        if NORM != "none":
            if BY_ROW:
                at_moments = number[:, None, None] * GROUPS + tl.arange(0, GROUPS)[None, :, None]
                moments_mask = (row < active)[:, None, None]
                count = 4 * H // GROUPS
            else:
                at_moments = step * (4 * H) + feature
                moments_mask = known_gates
                count = active.to(WORK)
            mu = tl.load(mean + at_moments, mask=moments_mask, other=0.0)
            scale = tl.rsqrt(tl.load(var + at_moments, mask=moments_mask, other=1.0) + EPS)
            g = tl.load(gain + feature, mask=known_gates, other=0.0)
            x_hat = (x - mu) * scale
            x = x_hat * g
            if NORM == "hidden":
                x += tl.load(gates_x + at_gates, mask=live_gates, other=0.0).to(WORK)
            if bias is not None:
                x += tl.load(bias + feature, mask=known_gates, other=0.0)
        a_i, a_f, a_g, a_o = split_gates(x, R, U)
        i, f, g_, o = tl.sigmoid(a_i), tl.sigmoid(a_f), tanh(a_g), tl.sigmoid(a_o)

        old = kept if CARRIED else c
        c_before = tl.load(old + (before + row)[:, None] * H + unit[None, :], mask=live, other=0.0)
        seen = tl.load(c + at, mask=live, other=0.0)
        if CELL:
            if BY_ROW:
                at_moments = number[:, None, None]
                moments_mask = (row < active)[:, None, None]
                cell_count = H
            else:
                at_moments = step * H + unit[None, None, :]
                moments_mask = known_gates
                cell_count = active.to(WORK)
            cell_mu = tl.load(cell_mean + at_moments, mask=moments_mask, other=0.0)
            cell_scale = tl.rsqrt(tl.load(cell_var + at_moments, mask=moments_mask, other=1.0) + CELL_EPS)
            cell_g = tl.load(cell_gain + unit, mask=known, other=0.0)[None, None, :]
            cell_hat = (seen[:, None, :] - cell_mu) * cell_scale
            seen = tl.reshape(cell_hat * cell_g, (R, U))
            if cell_bias is not None:
                seen += tl.load(cell_bias + unit, mask=known, other=0.0)[None, :]
        squashed = tanh(seen)

        # Of sequences that end here, d_h and d_c hold the gradients of their last states.
        dh = tl.load(d_h + at_state, mask=live, other=0.0).to(WORK)
        if PRODUCT:
            through = state_product(
                d_raw, weight, after - initial + row, row < following, unit, H, R, U, K, PRECISION, WORK
            )
            dh = tl.where((row < following)[:, None], through, dh)
        dh += tl.load(d_rows + number[:, None] * H + unit[None, :], mask=live, other=0.0).to(WORK)
        dc = tl.load(d_c + at_state, mask=live, other=0.0)
        d_o = dh * squashed * o * (1 - o)
        d_seen = dh * o * (1 - squashed * squashed)
        if CARRIED:
            d_seen += dc
        if CELL:
            d_cells = d_seen[:, None, :]
            accumulate(d_cell_gain, d_cells * cell_hat, row, unit[None, None, :], live_gates, known_gates, H, BY_ROW)
            if cell_bias is not None:
                accumulate(d_cell_bias, d_cells, row, unit[None, None, :], live_gates, known_gates, H, BY_ROW)
            d_cells = norm_gradient(
                d_cells, cell_hat, cell_scale, cell_g, live_gates, cell_count, OWN, BY_ROW, 1, CELL_CENTERED
            )
            d_seen = tl.reshape(d_cells, (R, U))
        if not CARRIED:
            d_seen += dc
        d_i, d_f, d_g = d_seen * g_ * i * (1 - i), d_seen * c_before * f * (1 - f), d_seen * i * (1 - g_ * g_)
        tl.store(d_c + at_state, d_seen * f, mask=live)
        d_gates = join_gates(d_i, d_f, d_g, d_o, R, U)
        if NORM == "hidden":
            tl.store(d_gates_x + at_gates, d_gates.to(d_gates_x.dtype.element_ty), mask=live_gates)
        if NORM != "none":
            accumulate(d_gain, d_gates * x_hat, row, feature, live_gates, known_gates, 4 * H, BY_ROW)
            if bias is not None:
                accumulate(d_bias, d_gates, row, feature, live_gates, known_gates, 4 * H, BY_ROW)
            d_gates = norm_gradient(d_gates, x_hat, scale, g, live_gates, count, OWN, BY_ROW, GROUPS, CENTERED)
        tl.store(d_raw + at_gates, d_gates.to(d_raw.dtype.element_ty), mask=live_gates)
        finish_step(counter, TOGETHER)
