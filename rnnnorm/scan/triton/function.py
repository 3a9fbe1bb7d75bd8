"""The scan as one node of the autograd graph: buffers, phases by whose moments are used, products after the loop."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ...common.transforms import plain
from ...packing import InputError
from .column_moments import observe_tail, settle
from .recurrence import Recurrence

SECOND_ORDER = (
    "the Triton scan has no second derivatives (create_graph=True) and takes no batched gradients "
    "(is_grads_batched=True, vectorize=True): build the network with backend='reference'"
)


class ScanFunction(torch.autograd.Function):
    """(gates_x, W_hh, h_0, c_0, gain, bias, cell gain, cell bias) → (output rows, h_n, c_n); see `Recurrence`."""

    @staticmethod
    def forward(
        ctx: Any,
        run: Recurrence,
        gates_x: Tensor,
        weight: Tensor,
        h_0: Tensor,
        c_0: Tensor,
        gain: Tensor | None,
        bias: Tensor | None,
        cell_gain: Tensor | None,
        cell_bias: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run all steps; h_0 has the type of the output, c_0 that of the arithmetic, and so have gains and biases."""
        sizes, own, T = run.sizes, run.own, len(run.sizes)
        (B, H), N = h_0.shape, gates_x.shape[0]
        offsets = on_device(tuple(run.offsets), gates_x.device)
        writes: dict[str, Tensor | None] = {
            "raw": torch.empty_like(gates_x, dtype=weight.dtype),
            "h": h_0.new_empty(B + N, H),
            "c": c_0.new_empty(B + N, H),
            "kept": c_0.new_empty(B + N, H) if run.carried else None,
        }
        reads = {"offsets": offsets, "gates_x": gates_x, "weight": weight, "gain": gain, "bias": bias, "h_0": h_0}
        reads |= {"c_0": c_0, "cell_gain": cell_gain, "cell_bias": cell_bias}
        stored = {}
        for prefix, place, F in (("", run.gates, 4 * H), ("cell_", run.plan.cell, H)):
            shape = (N, place.groups) if place is not None and place.by_row else (T, F)
            for name in ("mean", "var"):
                stored[prefix + name] = None if place is None else c_0.new_empty(shape)

        run.forward(0, own, reads, {**writes, **stored})
        settle(run.gates, sizes, own, stored["mean"], stored["var"])
        settle(run.plan.cell, sizes, own, stored["cell_mean"], stored["cell_var"])
        run.forward(own, T, {**reads, **stored}, writes)
        observe_tail(run.gates, sizes, own, writes["raw"])
        observe_tail(run.plan.cell, sizes, own, writes["c"])

        ctx.run = run
        h, c, kept = writes["h"], writes["c"], writes["kept"]
        assert h is not None
        assert c is not None
        saved = {**{name: t for name, t in reads.items() if name != "h_0"}, **writes, **stored}
        if run.norm != "hidden":
            saved["gates_x"] = None  # it is part of `raw`
        ctx.names = tuple(saved)
        ctx.gates_type = gates_x.dtype
        ctx.shapes = tuple(None if tensor is None else (tensor.shape, tensor.dtype) for tensor in saved.values())
        ctx.save_for_backward(*saved.values())
        return h[B:].clone(), last_rows(h, sizes), last_rows(c if kept is None else kept, sizes).to(h.dtype)

    @staticmethod
    def backward(ctx: Any, d_rows: Tensor, d_h_n: Tensor, d_c_n: Tensor) -> tuple[Tensor | None, ...]:
        """Run all steps backward, then take the gradient of W_hh by one product.

        Raises:
            RuntimeError: with create_graph=True, or for batched gradients.
            InputError: a tensor that forward read has another shape or type now.
        """
        device = d_rows.device.type
        if torch.is_grad_enabled() or not all(plain(d, device) for d in (d_rows, d_h_n, d_c_n)):
            raise RuntimeError(SECOND_ORDER)
        with torch.autocast(d_rows.device.type, enabled=False):
            return _backward(ctx, d_rows, d_h_n, d_c_n)


def _backward(ctx: Any, d_rows: Tensor, d_h_n: Tensor, d_c_n: Tensor) -> tuple[Tensor | None, ...]:
    run: Recurrence = ctx.run
    reads = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
    for (name, tensor), expected in zip(reads.items(), ctx.shapes, strict=True):
        if tensor is not None and (tensor.shape, tensor.dtype) != expected:
            shape, dtype = expected
            raise InputError(
                f"{name} was {dtype} of shape {tuple(shape)} in forward, and is {tensor.dtype} of shape "
                f"{tuple(tensor.shape)} in backward"
            )
    c_0, h, weight, raw = (reads[name] for name in ("c_0", "h", "weight", "raw"))
    del reads["c_0"], reads["h"]
    sizes, T, (B, H) = run.sizes, len(run.sizes), c_0.shape
    reads |= {"d_rows": d_rows.contiguous(), "d_h_n": d_h_n.contiguous(), "d_c_n": d_c_n.contiguous()}
    writes: dict[str, Tensor | None] = {
        "d_h": weight.new_empty(B, H),
        "d_c": c_0.new_empty(B, H),
        "d_raw": torch.empty_like(raw),
        "d_gates_x": torch.empty_like(raw, dtype=ctx.gates_type) if run.norm == "hidden" else None,
    }
    for name in ("gain", "bias", "cell_gain", "cell_bias"):
        like = reads[name]
        by_sequence = (B,) if run.by_row else ()
        writes["d_" + name] = None if like is None else like.new_empty(*by_sequence, *like.shape)
    run.backward(run.own, T, reads, writes)
    run.backward(0, run.own, reads, writes)

    d_raw, d_c = writes["d_raw"], writes["d_c"]
    assert d_raw is not None
    d_gates_x = writes["d_gates_x"] if run.norm == "hidden" else d_raw.to(ctx.gates_type)
    needs = ctx.needs_input_grad
    d_weight = d_raw.t() @ rows_before(h, sizes).to(weight.dtype) if needs[2] else None
    d_h_0 = (d_raw[:B] @ weight).to(h.dtype) if needs[3] else None
    vectors = []
    for name in ("gain", "bias", "cell_gain", "cell_bias"):
        total = writes["d_" + name]
        vectors.append(total.sum(0) if total is not None and run.by_row else total)
    return None, d_gates_x, d_weight, d_h_0, d_c, *vectors


def last_rows(states: Tensor, sizes: Sequence[int]) -> Tensor:
    """The last state of each sequence, (B, H), from all of them, (B + N, H)."""
    ends = list(accumulate(sizes, initial=sizes[0]))[1:]
    following = [*sizes[1:], 0]
    parts = [states[end - size + after : end] for end, size, after in zip(ends, sizes, following, strict=True)]
    return torch.cat([part for part in reversed(parts) if part.shape[0]])


def rows_before(states: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """States that each row was computed from, (N, H): the same sequence one step earlier."""
    if sizes[-1] == sizes[0]:
        return states[: sum(sizes)]
    return states.index_select(0, _numbers_before(sizes, states.device))


@lru_cache(maxsize=64)
def on_device(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    """Integers on a device; kept, since batches of the same lengths come again and each copy waits for the device."""
    with torch.inference_mode(False):  # it may be saved for a backward pass later
        return torch.tensor(numbers, device=device)


@lru_cache(maxsize=64)
def _numbers_before(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        distance = torch.repeat_interleave(torch.tensor([sizes[0], *sizes[:-1]]), torch.tensor(sizes))
        return (torch.arange(sum(sizes)) + sizes[0] - distance).to(device)
