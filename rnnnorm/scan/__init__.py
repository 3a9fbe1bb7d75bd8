"""Run one layer of a normalized LSTM over packed rows, by one of several backends that agree."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..cell import CellNorms
from ..weights import LayerWeights
from .reference import scan_reference
from .torch_lstm import scan_torch
from .torch_lstm import supports as torch_supports

Scan = Callable[[Tensor, Tensor, Tensor, Tensor, LayerWeights, CellNorms], tuple[Tensor, Tensor, Tensor]]


def _always(norms: CellNorms) -> bool:
    return True


BACKENDS: dict[str, tuple[Scan, Callable[[CellNorms], bool]]] = {
    "torch": (scan_torch, torch_supports),
    "reference": (scan_reference, _always),
}
"""By name, fastest first: the scan and whether it covers a layer's normalizers. The last one covers everything."""


def resolve(backend: str, norms: CellNorms) -> str:
    """The backend that will run: for "auto" the first that covers the normalizers.

    Raises:
        ValueError: unknown backend, or one that does not cover these normalizers.
    """
    if backend == "auto":
        return next(name for name, (_, supports) in BACKENDS.items() if supports(norms))
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; there are: auto, {', '.join(BACKENDS)}")
    if not BACKENDS[backend][1](norms):
        raise ValueError(f"backend {backend!r} does not cover these normalizers; use backend='auto'")
    return backend


def scan(
    backend: str, data: Tensor, batch_sizes: Tensor, h0: Tensor, c0: Tensor, weights: LayerWeights, norms: CellNorms
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer in one direction; arguments and results as in `scan_reference`."""
    return BACKENDS[resolve(backend, norms)][0](data, batch_sizes, h0, c0, weights, norms)


__all__ = ["BACKENDS", "resolve", "scan"]
