"""A layer by the Triton kernels: what stands before the loop, types, and when another way is taken."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...equations import Layer
from ...packing import check_packed
from ..checks import check_states
from ..plan import Plan, make_plan
from ..reference import scan_reference
from .framewise import framewise
from .function import ScanFunction
from .launches import can_multiply, choose_tiling, fits
from .recurrence import Recurrence

Result = tuple[Tensor, tuple[Tensor, ...]]


def scan(layer: Layer, data: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...]) -> Result:
    """One layer in one direction; arguments and results as in `scan_reference`.

    Half precision, and float32 under autocast, enter products only; moments, gates and cell states are float32.
    """
    sizes = check_packed(data.shape[0], batch_sizes)
    check_states(layer, sizes[0], states)
    plan = make_plan(layer)
    own = plan.own_steps(sizes)
    inside = [place for place in (plan.hidden, plan.joint, plan.cell) if place is not None]
    by_row, by_column = any(place.by_row for place in inside), any(place.by_column for place in inside)
    W_hh = layer.weights.W_hh
    if not fits(sizes[0], W_hh.shape[1], by_row, plan.by_column):
        return scan_reference(layer, data, batch_sizes, states)

    device = data.device.type
    if torch.is_autocast_enabled(device) and W_hh.dtype != torch.float64:
        W_hh = W_hh.to(torch.get_autocast_dtype(device))
    gates_x = _gates_x(layer, plan, data, sizes, own)
    bias = _inner_bias(layer, plan)
    work = torch.promote_types(gates_x.dtype, torch.float32)
    outside = states[1].dtype  # as in the equations, where the gates' arguments meet c_0
    for met in (gates_x, W_hh) if bias is None else (gates_x, W_hh, bias):
        outside = torch.promote_types(outside, met.dtype)
    tiling = choose_tiling(sizes[0], W_hh.shape[1], by_row, by_column, can_multiply(W_hh))
    run = Recurrence(plan, tuple(sizes), own if by_column else len(sizes), tiling)
    gates, cell = run.gates, plan.cell
    vectors = (None if gates is None else gates.gain, bias, *((None, None) if cell is None else (cell.gain, cell.bias)))
    h_0, c_0 = states[0].to(outside), states[1].to(work)
    with torch.autocast(device, enabled=False):
        rows, h_n, c_n = ScanFunction.apply(  # type: ignore[no-untyped-call]
            run,
            *(x.contiguous() for x in (gates_x, W_hh, h_0, c_0)),
            *(None if v is None else v.to(work).contiguous() for v in vectors),
        )
    return rows, (h_n, c_n)


def _gates_x(layer: Layer, plan: Plan, data: Tensor, sizes: Sequence[int], own: int) -> Tensor:
    """N_input(W_ih x) + b of all packed rows, (N, 4H), without b where N_joint stands."""
    W_ih, bias = layer.weights.W_ih, layer.split[0]
    if plan.input is None and plan.joint is None:
        return F.linear(data, W_ih, bias)
    if plan.input is None or not plan.input.by_column:
        return layer.gates_x(data, list(sizes))
    gates = framewise(plan.input, F.linear(data, W_ih), sizes, own)
    return gates if bias is None else gates + bias


def _inner_bias(layer: Layer, plan: Plan) -> Tensor | None:
    """Bias behind the normalizer inside the loop: its own, and b where it normalizes the sum."""
    place = plan.hidden if plan.joint is None else plan.joint
    own = None if place is None else place.bias
    b = None if plan.joint is None else layer.split[0]
    return own if b is None else b if own is None else b + own
