"""Run one layer of a normalized recurrent network over packed rows, by one of several backends that agree."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..equations import Cell, CellNorms, Layer, Noise
from .reference import scan_reference
from .torch_operators import scan_torch
from .torch_operators import supports as torch_supports

Scan = Callable[[Layer, Tensor, Tensor, tuple[Tensor, ...]], tuple[Tensor, tuple[Tensor, ...]]]
Supports = Callable[[Cell, CellNorms, Noise], bool]


def _always(cell: Cell, norms: CellNorms, noise: Noise) -> bool:
    return True


BACKENDS: dict[str, tuple[Scan, Supports]] = {
    "torch": (scan_torch, torch_supports),
    "reference": (scan_reference, _always),
}
"""By name, fastest first: the scan, and whether it covers a cell with its normalizers and what is dropped inside.

The last one covers everything.
"""


def resolve(backend: str, cell: Cell, norms: CellNorms, noise: Noise) -> str:
    """The backend that will run: for "auto" the first that covers the layer.

    Raises:
        ValueError: unknown backend, or one that does not cover this layer.
    """
    if backend == "auto":
        return next(name for name, (_, supports) in BACKENDS.items() if supports(cell, norms, noise))
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; there are: auto, {', '.join(BACKENDS)}")
    if not BACKENDS[backend][1](cell, norms, noise):
        raise ValueError(
            f"backend {backend!r} does not cover this {cell.name} with its normalizers and options; use backend='auto'"
        )
    return backend


def scan(
    backend: str, layer: Layer, data: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer in one direction; arguments and results as in `scan_reference`."""
    name = resolve(backend, layer.cell, layer.norms, layer.noise)
    return BACKENDS[name][0](layer, data, batch_sizes, states)


__all__ = ["BACKENDS", "resolve", "scan"]
