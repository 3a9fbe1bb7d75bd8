"""Statistics that batch normalization uses in evaluation: running averages, the population's, or the batch's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from .statistics import StoredStatistics

SOURCES = ("running", "population", "batch")


def step_statistics(model: nn.Module) -> list[StoredStatistics]:
    """All stored statistics inside a model."""
    return [module for module in model.modules() if isinstance(module, StoredStatistics)]


def has_batch_statistics(model: nn.Module) -> bool:
    """Whether evaluation depends on stored statistics, so that training and evaluation can differ."""
    return bool(step_statistics(model))


def evaluates_by(model: nn.Module) -> str:
    """Stored statistics that the normalizers of a model need in evaluation: "population" or "running".

    Where training normalizes by each batch's own moments, the population's are what they estimate. Where it reads the
    running averages themselves, as in online normalization, evaluation must, too.
    """
    found = {getattr(module, "evaluates_by", "population") for module in model.modules()}
    return "running" if "running" in found else "population"


@contextmanager
def statistics(model: nn.Module, source: str) -> Iterator[None]:
    """Choose what batch normalization uses in evaluation, for the time of a `with` block.

    Args:
        model: any module that contains normalizers.
        source: "running": moving averages of training; "population": those of the last `recalibrate`; "batch": each
            batch's own moments, as in training, without updating anything.

    Raises:
        ValueError: another source.
        RuntimeError: in the forward pass, for "population" before `recalibrate`.

    Example:
        >>> model, x = rnnnorm.LSTM(10, 20, norm="bn-timestep"), torch.randn(5, 8, 10)
        >>> alike = model(x)[0]  # trained by the moments of the batch
        >>> with statistics(model, "batch"):
        ...     bool(torch.allclose(model.eval()(x)[0], alike, atol=1e-6))
        True
        >>> bool(torch.allclose(model(x)[0], alike, atol=1e-6))  # by running averages
        False
    """
    if source not in SOURCES:
        raise ValueError(f"statistics must be one of {', '.join(SOURCES)}, got {source!r}")
    found = step_statistics(model)
    before = [s.source for s in found]
    for s in found:
        s.source = source
    try:
        yield
    finally:
        for s, old in zip(found, before, strict=True):
            s.source = old
