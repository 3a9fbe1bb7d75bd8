"""Batch normalization by moments over the rows of all processes of `torch.distributed`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .base import at_least_float32
from .batch_statistics import BatchNormalizer, moments
from .column_steps import ColumnSteps
from .processes import pool_moments, processes, total_rows


class SynchronizedNormalizer(ColumnSteps, BatchNormalizer):
    """Base of the normalizers that can take their moments over the rows of all processes, (Σ_k B_t of process k, F).

    Processes that are synchronized compute what one process would compute on all of their rows: outputs, gradients and
    running statistics, which are then equal on all of them. `min_rows` counts all rows; one row among all processes
    uses the stored statistics, as in `BatchNorm`. It happens in training, and while population statistics are gathered
    (`rnnnorm.recalibrate`, which all processes must then call on as many batches); evaluation by the batch's own
    moments stays with each process, since processes may have different numbers of validation batches.

    Within a network the processes first agree on the rows of every step (see `agreement`), and one whose sequences
    have ended goes on with no rows until all have. A normalizer that is called by itself, as in a single cell, must be
    called as often on all processes. Per normalizer and step there is one collective, and one in the backward pass; at
    the places that see the rows of all steps, one for all steps. There is no second derivative.

    Args:
        sync: take moments over all processes; None, which `synchronize` may switch on, and False: over the own rows.

    Raises:
        ValueError: `sync` is neither true, false nor None.
    """

    untold: ClassVar[tuple[str, ...]] = ("total",)
    total: list[int] | None = None
    """Rows of all processes at each step, while a network runs that has agreed on them."""

    def __init__(self, num_features: int, *, sync: bool | None = None, **kw: Any) -> None:
        super().__init__(num_features, **kw)
        self.sync = sync

    def synchronizes(self) -> bool:
        """Whether moments are taken over several processes now."""
        return bool(self.sync) and (self._learns() or self.wants_moments()) and processes() > 1

    def _all_steps(self, batch_sizes: list[int]) -> list[int]:
        return batch_sizes + [0] * max(len(self.total or ()) - len(batch_sizes), 0)

    def _by_everyone(self, x: Tensor, start: int, sizes: list[int]) -> Tensor:
        """Normalize the rows of consecutive steps, of which this process may have none."""
        rows = at_least_float32(x)
        steps = [moments(part) if len(part) else (part.sum(0), part.sum(0)) for part in rows.split_with_sizes(sizes)]
        mean, var = (torch.stack(parts) for parts in zip(*steps, strict=True))
        mean, var = self.pooled(mean, var, start, sizes)
        if len(sizes) > 1:
            repeats = torch.tensor(sizes, device=x.device)
            mean, var = (m.repeat_interleave(repeats, 0, output_size=len(rows)) for m in (mean, var))
        return self._by_moments(rows, mean, var).to(x.dtype)

    def pooled(self, mean: Tensor, var: Tensor, start: int, sizes: list[int]) -> tuple[Tensor, Tensor]:
        """Moments that normalize consecutive steps, from those of this process's rows; stored moments are moved.

        Args:
            mean: (steps, F).
            var: (steps, F), biased.
            start: number of the first step.
            sizes: rows of each, on this process.

        Returns:
            mean and variance (steps, F): those of all rows, and stored ones where all rows are too few.
        """
        mean, var, counts = pool_moments(at_least_float32(mean), at_least_float32(var), sizes)
        if self.total is None:  # outside of `agreement`
            rows = [int(n) for n in counts.tolist()]
        elif self.sequence_wise:
            rows = [sum(self.total)]
        else:
            rows = self.total[start : start + len(sizes)]
        self._notice(start, rows, mean, var)
        self.observe(start, rows, mean.detach(), var.detach())
        own = self._enough(rows)
        if own < len(rows):
            stored = (m.to(mean.dtype) for m in self.recall(start + own, start + len(rows)))
            mean, var = (torch.cat([m[:own], s]) for m, s in zip((mean, var), stored, strict=True))
        return mean, var

    def _notice(self, start: int, rows: list[int], mean: Tensor, var: Tensor) -> None:
        """Take note of the moments (steps, F) of all processes' rows, with their graph, before stored ones move."""

    def _learns(self) -> bool:
        return self.training

    def extra_repr(self) -> str:
        """Everything that is not visible in the parameters."""
        return super().extra_repr() + ("" if self.sync is None else f", sync={self.sync}")


@contextmanager
def agreement(normalizers: Iterable[nn.Module], batch_sizes: Tensor, device: torch.device) -> Iterator[None]:
    """A block in which synchronized normalizers know the rows of all processes at every step.

    Nothing happens without several processes, or if none of the normalizers is synchronized now.

    Args:
        normalizers: modules among which they are, asked for only if there are several processes.
        batch_sizes: (T,), active rows of this process.
        device: where the rows are.
    """
    found = []
    if processes() > 1:
        found = [m for m in normalizers if isinstance(m, SynchronizedNormalizer) and m.synchronizes()]
    total = total_rows(batch_sizes, device) if found else None
    for normalizer in found:
        normalizer.total = total
    try:
        yield
    finally:
        for normalizer in found:
            normalizer.total = None


def synchronize(model: nn.Module) -> None:
    """Switch `sync` on in all normalizers of a model that have it and were not told whether to."""
    for module in model.modules():
        if isinstance(module, SynchronizedNormalizer) and module.sync is None:
            module.sync = True


@contextmanager
def unsynchronized(model: nn.Module) -> Iterator[None]:
    """A block in which a model runs on one process alone, whatever its normalizers were told."""
    found = [(m, m.sync) for m in model.modules() if isinstance(m, SynchronizedNormalizer)]
    for module, _ in found:
        module.sync = False
    try:
        yield
    finally:
        for module, sync in found:
            module.sync = sync
