"""Backends: one layer of a normalized recurrent network over packed rows, by several implementations that agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from ..equations import CellNorms, Equations, Layer, Noise
from . import plan, torch_operators
from .native import ready as native_ready
from .native import scan_native
from .reference import scan_reference
from .triton import interpreting, scan_triton
from .triton import ready as triton_ready


class Backend(NamedTuple):
    """One way to run a layer.

    Args:
        scan: runs it; arguments and results as in `scan_reference`.
        supports: whether it covers a cell with its normalizers and what is dropped inside.
        ready: whether it can run these very tensors here and now.
        likely: whether to ask the former two at all for so many steps of these rows, if no backend is named. One step
            takes some ten microseconds, and so do the questions.
    """

    scan: Callable[[Layer, Tensor, Tensor, tuple[Tensor, ...]], tuple[Tensor, tuple[Tensor, ...]]]
    supports: Callable[[Equations, CellNorms, Noise], bool]
    ready: Callable[[Layer, Tensor], bool]
    likely: Callable[[Tensor, int], bool]


def _always(*_: object) -> bool:
    return True


def _many_steps(data: Tensor, steps: int) -> bool:
    """A single step is not worth the preparations of a compiled scan, such as packing the weights."""
    return steps > 1


def _on_gpu(data: Tensor, steps: int) -> bool:
    return data.is_cuda or interpreting()


BACKENDS: dict[str, Backend] = {
    "native": Backend(scan_native, plan.supports, native_ready, _many_steps),
    "torch": Backend(torch_operators.scan_torch, torch_operators.supports, torch_operators.ready, _always),
    "triton": Backend(scan_triton, plan.plain, triton_ready, _on_gpu),
    "reference": Backend(scan_reference, _always, _always, _always),
}
"""By name, fastest first where several are ready; the last one covers everything.

On a CPU that is "native"; on a GPU "torch", which is cuDNN, where nothing is normalized, and "triton" otherwise.
"""


def check_backend(backend: str, cell: Equations, norms: CellNorms, noise: Noise) -> None:
    """Raise ValueError for an unknown backend, or one that does not cover this layer."""
    if backend == "auto":
        return
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; there are: auto, {', '.join(BACKENDS)}")
    if not BACKENDS[backend].supports(cell, norms, noise):
        raise ValueError(
            f"backend {backend!r} does not cover this {cell.name} with its normalizers and options; use backend='auto'"
        )


def resolve(backend: str, layer: Layer, data: Tensor, steps: int = 2) -> str:
    """The backend that will run: for "auto" the first that covers the layer and can run this data here.

    Raises:
        ValueError: unknown backend, or one that does not cover this layer.
        RuntimeError: it does, but cannot run here.
    """
    cell, norms, noise = layer.cell, layer.norms, layer.noise
    if backend == "auto":
        for name, candidate in BACKENDS.items():
            if not candidate.likely(data, steps):
                continue
            if candidate.supports(cell, norms, noise) and candidate.ready(layer, data):
                return name
    check_backend(backend, cell, norms, noise)
    if not BACKENDS[backend].ready(layer, data):
        raise RuntimeError(
            f"backend {backend!r} cannot run {data.dtype} on {data.device} with these options here; use backend='auto'"
        )
    return backend


def scan(
    backend: str, layer: Layer, data: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer in one direction; arguments and results as in `scan_reference`."""
    return BACKENDS[resolve(backend, layer, data, batch_sizes.shape[0])].scan(layer, data, batch_sizes, states)


__all__ = ["BACKENDS", "Backend", "check_backend", "resolve", "scan"]
