"""Self-check: the kernels are used on a device after they have agreed there with the reference once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache

import torch
from torch import Tensor

from ...equations import Layer, LayerWeights, LSTMEquations
from ...norms.places import Norm
from ..reference import scan_reference

Scan = Callable[[Layer, Tensor, Tensor, tuple[Tensor, ...]], tuple[Tensor, tuple[Tensor, ...]]]

NORMS = (
    Norm(),
    Norm(input="ln", hidden="ln", cell="ln"),
    Norm(hidden="bn:statistics=timestep", cell="bn:statistics=timestep"),
)
"""One of each kind: nothing inside, moments by row, moments by column."""
SIZES = (9, 9, 8, 6)
INPUT, HIDDEN, TOLERANCE = 3, 20, 1e-3


@cache
def trusted(device: torch.device) -> bool:
    """Whether values and gradients of small layers are those of the reference; says so once if they are not.

    New devices, drivers and versions of Triton come faster than anybody can test them. Products are full float32 here;
    the tolerance is far above their rounding and far below what a wrong index or a missing synchronization does.
    """
    try:
        worst = _largest([_error(norm, device) for norm in NORMS])
        reason = f"they differ from the reference by {worst:.1e}" if not worst < TOLERANCE else ""
    except Exception as error:  # a compiler may raise anything; the reference still runs
        reason = f"{type(error).__name__}: {error}"
    if reason:
        warnings.warn(f"rnnnorm does not use its Triton kernels on {device}: {reason}", stacklevel=2)
    return not reason


def _error(norm: Norm, device: torch.device) -> float:
    """The largest relative deviation among results and gradients."""
    from .run import scan

    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")
        there = torch.cuda.device(device) if device.type == "cuda" else nullcontext()  # Triton launches on it
        with there, torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            pairs = zip(_outcome(scan_reference, norm, device), _outcome(scan, norm, device), strict=True)
            return _largest([float((ours - truth).norm() / (truth.norm() + 1e-6)) for truth, ours in pairs])
    finally:
        torch.set_float32_matmul_precision(precision)


def _largest(values: list[float]) -> float:
    """The largest value; NaN if there is one, which Python's max might pass over."""
    return float(torch.tensor(values).max())


def _outcome(scan: Scan, norm: Norm, device: torch.device) -> list[Tensor]:
    """Results and gradients of one run of the example."""
    layer, data, states = _example(norm, device)
    out, last = scan(layer, data, torch.tensor(SIZES), states)
    results = [out, *last]
    leaves = [data, *states, *layer.weights[:2], *layer.weights.biases, *layer.norms.parameters()]
    weights = [torch.linspace(-1, 1, r.numel(), device=device).view_as(r) for r in results]
    return [r.detach() for r in (*results, *torch.autograd.grad(results, leaves, weights))]


def _example(norm: Norm, device: torch.device) -> tuple[Layer, Tensor, tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=random).to(device).requires_grad_()

    cell = LSTMEquations()
    norms = cell.build_norms(norm, HIDDEN, len(SIZES), device=device).train()
    weights = LayerWeights(draw(4 * HIDDEN, INPUT), draw(4 * HIDDEN, HIDDEN), (draw(4 * HIDDEN),))
    states = (draw(SIZES[0], HIDDEN), draw(SIZES[0], HIDDEN))
    return Layer(cell, weights, norms), draw(sum(SIZES), INPUT), states
