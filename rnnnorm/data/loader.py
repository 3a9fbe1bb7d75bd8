"""DataLoader that can be stopped in the middle of an epoch and continues at the next batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, SequentialSampler
from torch.utils.data.dataloader import _BaseDataLoaderIter

from rnnnorm.data.base import Batch
from rnnnorm.data.sampler import EpochSampler


def as_is(batch: Batch) -> Batch:
    """The `collate_fn` of data that are ready batches."""
    return batch


class ResumableLoader(DataLoader[Any]):
    """DataLoader over the batches of `plan` that counts them: Lightning's checkpoints then hold the place in the epoch.

    Counted are the batches *handed out*, not those that workers have fetched ahead: save checkpoints between two steps,
    as Lightning's callbacks do, because a batch in the middle of its step counts as seen. Call `set_epoch` of the plan
    before each epoch to have a new order (Lightning does); without it every epoch is the same one.

    Iterating draws nothing from torch's global random stream.

    Args:
        dataset: `dataset[entry]` are the examples of one entry of the plan, `len(dataset)` their number.
        plan: which batches, in which order.
        collate_fn: makes a `Batch` from what `dataset[entry]` returns.
        num_workers: processes that prepare batches; 0 prepares them in this one.
        sampler: not for callers. `Trainer(overfit_batches=…)` puts a `SequentialSampler` here to say "no shuffling".
        **kwargs: everything else `torch.utils.data.DataLoader` takes.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        plan: EpochSampler[Any],
        collate_fn: Callable[[Any], Batch],
        num_workers: int = 0,
        sampler: Any = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(sampler, SequentialSampler):
            plan = plan.unshuffled()
        # An entry of the plan is a whole batch, so torch's own batching is off (batch_size=None).
        kwargs.update(batch_size=None, shuffle=None, drop_last=False, batch_sampler=None)
        kwargs.setdefault("generator", torch.Generator().manual_seed(plan.seed))
        super().__init__(dataset, sampler=plan, collate_fn=collate_fn, num_workers=num_workers, **kwargs)
        self.plan = plan
        self._position = (0, 0)  # epoch, batches handed out in it
        self._resume: tuple[int, int] | None = None

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator runs nothing before the first batch is asked for. Lightning, resuming, calls iter() first and
        # set_epoch() afterwards: only then is it known whether the epoch of the checkpoint goes on or is over.
        resume, self._resume = self._resume, None
        epoch = self.plan.epoch
        start = resume[1] if resume is not None and resume[0] == epoch else 0
        self.plan.start = start
        batches: _BaseDataLoaderIter = super().__iter__()
        self.plan.start = 0
        self._position = (epoch, start)
        for batch in batches:
            start += 1
            self._position = (epoch, start)
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Say where the loader stands: the epoch, the batches handed out in it, and how many it has in all."""
        epoch, batches = self._position if self._resume is None else self._resume
        return {"epoch": epoch, "batches": batches, "total": len(self)}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from a state: the next iteration of that epoch begins after the batches it had handed out.

        An iteration of another epoch (`set_epoch` called in between) begins at its beginning.

        Raises:
            ValueError: the epoch was not finished and had another number of batches than this loader has.
        """
        epoch, batches, total = (state_dict[key] for key in ("epoch", "batches", "total"))
        if total != len(self) and 0 < batches < total:
            raise ValueError(
                f"cannot go on after batch {batches} of {total}: this loader has {len(self)} batches per epoch, "
                "so the data, the batch size or the number of processes has changed"
            )
        self.plan.set_epoch(epoch)
        self._position = self._resume = (epoch, batches)
