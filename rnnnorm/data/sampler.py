"""Assignment of sequences to batches: fixed once per epoch, the same on every machine and after every restart."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any, TypeVar, cast

import numpy as np
import torch.distributed
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler
from torchtext.data.iterator import batch as cut
from torchtext.data.iterator import pool

T = TypeVar("T")


class EpochSampler(DistributedSampler[T]):
    """A sampler whose whole epoch is a list, fixed by seed and epoch: `batches(epoch)`.

    This is what makes a data loader resumable: to go on from batch k is to leave out the first k entries (`start`).

    It is a `DistributedSampler` because it deals the data out to the processes itself, and because that is the sign
    by which Lightning recognizes a sampler that it must not wrap into another one (`use_distributed_sampler`).

    Args:
        num_examples: examples that are dealt out.
        shuffle: a new order in each epoch, or always the same one.
        seed: of the order.
        drop_last: leave out the incomplete last batch.
        num_replicas: processes that share the data; None asks `torch.distributed`, and is 1 without a process group.
        rank: which of them this one is.
    """

    def __init__(
        self,
        num_examples: int,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            num_replicas = torch.distributed.get_world_size() if num_replicas is None else num_replicas
            rank = torch.distributed.get_rank() if rank is None else rank
        super().__init__(
            cast("Dataset[Any]", range(num_examples)),  # only its length is read
            num_replicas=1 if num_replicas is None else num_replicas,
            rank=0 if rank is None else rank,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
        )
        self.start = 0

    @abstractmethod
    def batches(self, epoch: int) -> list[T]:
        """All that this process is handed in the given epoch, in order."""

    def unshuffled(self) -> EpochSampler[T]:
        """The same sampler with the same order in every epoch."""
        other = copy(self)
        other.shuffle = False
        return other

    def __iter__(self) -> Iterator[T]:
        # Not a generator: `start` is read here, once, and not at the first `next`.
        return iter(self.batches(self.epoch)[self.start :])

    @abstractmethod
    def __len__(self) -> int:
        """Batches of a whole epoch, whatever `start` says."""


class InOrder(EpochSampler[int]):
    """Order 0, 1, …, num_items - 1 in every epoch and every process, for data that are ready batches (streams)."""

    def __init__(self, num_items: int) -> None:
        super().__init__(num_items, shuffle=False)
        self.num_items = num_items

    def batches(self, epoch: int) -> list[int]:
        """All items, whatever the epoch."""
        return list(range(self.num_items))

    def __len__(self) -> int:
        return self.num_items


class LengthBucketBatchSampler(EpochSampler[list[int]]):
    """Batches of sequences of similar length, so that a batch has few finished sequences in its late steps.

    The shuffled examples are cut into pools of 100 batches, each pool is sorted by length and cut into batches, and
    the batches of a pool are shuffled: torchtext's `pool`. Without `shuffle` everything is one pool, shortest first.

    Every example comes exactly once per epoch. Over W processes a batch of W·`batch_size` similar sequences is dealt
    out like cards, so all processes have the same number of batches, of the same sizes and nearly the same lengths,
    and no example twice; if W does not divide the number of examples the first ones of the epoch's order come a second
    time (fewer than W of them), as `torch.utils.data.DistributedSampler` does it.

    Args:
        lengths: steps of each sequence.
        batch_size: sequences per batch and process; the last batch of an epoch may be smaller.
        **common: `shuffle`, `seed`, `drop_last`, `num_replicas`, `rank`: see `EpochSampler`.

    Raises:
        ValueError: no sequences at all, a batch size below 1, or too few sequences for one batch under `drop_last`.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, **common: Any) -> None:
        super().__init__(len(lengths), **common)
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: at least 1 is needed")
        self.lengths = list(lengths)
        self.batch_size = batch_size
        if len(self) == 0:
            raise ValueError(
                f"{len(lengths)} sequences make no batch of {batch_size} for {self.num_replicas} process(es)"
                + (" under drop_last" if self.drop_last else "")
            )

    def batches(self, epoch: int) -> list[list[int]]:
        """This process's batches of the given epoch, each a list of indices into `lengths`."""
        # torchtext's own BucketIterator draws from Python's global random state and knows neither epochs nor
        # processes; its `pool` takes the random stream from outside, so one per (seed, epoch) replaces it here.
        # Not seed + epoch: then epoch 1 of seed 0 would be epoch 0 of seed 1.
        random = np.random.default_rng([self.seed, epoch])
        size = self.batch_size * self.num_replicas
        order = list(range(len(self.lengths)))
        if self.shuffle:
            order = random.permutation(len(order)).tolist()
        if self.drop_last:
            order = order[: len(order) - len(order) % size]
        else:
            missing = -len(order) % self.num_replicas
            order += (order * (1 + missing // len(order)))[:missing]
        if self.shuffle:

            def shuffled(pooled: list[list[int]]) -> list[list[int]]:
                return [pooled[i] for i in random.permutation(len(pooled))]

            dealt = pool(
                order, size, self.lengths.__getitem__, random_shuffler=shuffled, shuffle=True, sort_within_batch=True
            )
        else:
            dealt = cut(sorted(order, key=self.lengths.__getitem__), size)
        return [indices[self.rank :: self.num_replicas] for indices in dealt]

    def __len__(self) -> int:
        size = self.batch_size * self.num_replicas
        return len(self.lengths) // size if self.drop_last else -(-len(self.lengths) // size)
