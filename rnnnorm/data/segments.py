"""Independent segments of a long text: all of the same length, from another offset in each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rnnnorm.data.collate import Example
from rnnnorm.data.sampler import EpochSampler


def cut_segments(ids: Tensor, length: int) -> list[Example]:
    """Segments of `length` steps, one after the other; what is left at the end of the text is left out.

    The token that a segment predicts last is the first one that the next segment reads, so every token is predicted
    once but the first.

    Args:
        ids: the text, (L,) int64.
        length: steps of a segment.

    Raises:
        ValueError: the text is shorter than one segment.
    """
    count = (len(ids) - 1) // length
    if count < 1:
        raise ValueError(f"a text of {len(ids)} tokens has no segment of {length} steps: use shorter segments")
    inputs = torch.split(ids[: count * length, None], length)
    targets = torch.split(ids[1 : count * length + 1], length)
    return list(zip(inputs, targets, strict=True))


class Segments(Dataset[list[Example]]):
    """Segments of a text by the places at which they begin, several at a time.

    Args:
        ids: the text, (L,) int64.
        length: steps of a segment.
    """

    def __init__(self, ids: Tensor, length: int) -> None:
        self.ids, self.length = ids, length

    def __getitem__(self, starts: Sequence[int]) -> list[Example]:
        return [(self.ids[s : s + self.length, None], self.ids[s + 1 : s + self.length + 1]) for s in starts]

    def __len__(self) -> int:
        return len(self.ids) - self.length


class SegmentSampler(EpochSampler[list[int]]):
    """Batches of the places where segments begin, in a new order from a new offset in each epoch.

    In an epoch the segments begin at o, o + L, o + 2L, … with one offset o, uniform on 0 … L - 1, so that a text is
    not cut at the same places again and again (Cooijmans et al. 2017). There is one segment less than fits, for the
    room that an offset takes, and segments that fill no batch for all processes are left out in turn: all epochs have
    the same number of batches. Not shuffled, o is 0 and the order is that of the text.

    Args:
        num_tokens: of the text.
        length: L, steps of a segment.
        batch_size: segments per batch and process.
        **common: `shuffle`, `seed`, `num_replicas`, `rank`: see `EpochSampler`.

    Raises:
        ValueError: the text has too few segments for one batch.
    """

    def __init__(self, num_tokens: int, length: int, batch_size: int, **common: Any) -> None:
        self.count = (num_tokens - length) // length
        super().__init__(self.count, **common)
        self.length, self.batch_size = length, batch_size
        if len(self) == 0:
            raise ValueError(
                f"a text of {num_tokens} tokens has {max(self.count, 0)} segments of {length} steps from any offset, "
                f"which make no batch of {batch_size} for {self.num_replicas} process(es): use shorter segments or a "
                "smaller batch size"
            )

    @property
    def lengths(self) -> list[int]:
        """Steps of each segment."""
        return [self.length] * self.count

    def batches(self, epoch: int) -> list[list[int]]:
        """This process's batches of the given epoch, each a list of starting places."""
        starts = np.arange(self.count) * self.length
        if self.shuffle:
            random = np.random.default_rng([self.seed, epoch])
            starts = random.permutation(starts) + random.integers(self.length)
        size = self.batch_size * self.num_replicas
        whole = starts[: len(self) * size].reshape(len(self), size)
        own: list[list[int]] = whole[:, self.rank :: self.num_replicas].tolist()
        return own

    def __len__(self) -> int:
        return max(self.count, 0) // (self.batch_size * self.num_replicas)
