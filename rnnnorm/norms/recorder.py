"""Recorder: runs over packed rows, kept so that those of several batches can be run again as one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..packing import merge
from .evaluation import has_batch_statistics


class Rows(NamedTuple):
    """Input of a run of a recurrent network.

    Args:
        data: packed rows (N, F).
        batch_sizes: (T,) int64 on the CPU, active rows of each step.
        states: initial states (layers·directions, B, ·) in packed order; none for a module without states.
    """

    data: Tensor
    batch_sizes: Tensor
    states: tuple[Tensor, ...]


class Recordable:
    """A module that runs over packed rows and notes each run in its `recorder`, if there is one."""

    recorder: Recorder | None = None
    """Set for as long as population statistics are estimated."""
    mergeable: bool = True
    """Whether sequences of several batches may be run as one; not where padding counts, which depends on the batch."""

    def rerun(self, rows: Rows) -> None:
        """Run over rows for the sake of the normalizers inside; what comes out is of no interest."""
        raise NotImplementedError


def mergeable(model: nn.Module) -> bool:
    """Whether sequences of several batches may be run as one in all networks of a model."""
    return all(module.mergeable for module in model.modules() if isinstance(module, Recordable))


class Recorder:
    """The runs of the modules that hold stored statistics.

    Args:
        keep: the module whose runs are kept; True: the one that runs first; False: none.
    """

    def __init__(self, keep: Recordable | bool = True) -> None:
        self._keep = keep
        self.autocast: AbstractContextManager[Any] = nullcontext()
        """The autocast state in which the runs that are kept were made."""
        self.steps = 0
        """Steps of the longest run."""
        self.runs: list[Rows] = []
        """Those of the module that is kept."""
        self.times: dict[Recordable, int] = {}
        """How often each module has run, in the order of their first runs."""
        self.sequences = 0
        """Sequences that the first module has run over."""

    def note(self, module: Recordable, rows: Rows) -> None:
        """A module begins a run."""
        assert isinstance(module, nn.Module)
        if not has_batch_statistics(module):
            return
        self.times[module] = self.times.get(module, 0) + 1
        first = self.modules[0]
        if module is first:
            self.sequences += int(rows.batch_sizes[0])
        self.steps = max(self.steps, rows.batch_sizes.shape[0])
        if module is (first if self._keep is True else self._keep):
            # Copies, since a loader may reuse its memory for the next batch.
            self.runs.append(Rows(rows.data.clone(), rows.batch_sizes.clone(), tuple(s.clone() for s in rows.states)))
            device = rows.data.device.type
            enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
            self.autocast = torch.autocast(device, dtype, enabled=enabled)

    @property
    def modules(self) -> list[Any]:
        """Every module that has run, in the order of their first runs."""
        return list(self.times)

    @contextmanager
    def listening(self, model: nn.Module) -> Iterator[None]:
        """Record the runs inside a model."""
        found = [module for module in model.modules() if isinstance(module, Recordable)]
        for module in found:
            module.recorder = self
        try:
            yield
        finally:
            for module in found:
                del module.recorder

    def as_one_batch(self) -> Rows:
        """All runs that were kept as one batch, longest sequences first."""
        if len(self.runs) == 1:
            return self.runs[0]
        order, batch_sizes, row = merge([run.batch_sizes for run in self.runs])
        data = torch.cat([run.data for run in self.runs])[row.to(self.runs[0].data.device)]
        order = order.to(data.device)
        states = tuple(torch.cat(parts, 1)[:, order] for parts in zip(*(run.states for run in self.runs), strict=True))
        return Rows(data, batch_sizes, states)
