"""Other splits and other batches of the same data: a thin tail of long sequences, batches of mixed lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, ClassVar

import lightning as L
import numpy as np
from torch.utils.data import DataLoader

from rnnnorm.common.ranges import SEED, Checked, Range, between, one_of
from rnnnorm.data.base import Spec
from rnnnorm.data.collate import Example, collate
from rnnnorm.data.loader import ResumableLoader
from rnnnorm.data.module import Examples, SequenceDataModule
from rnnnorm.data.sampler import LengthBucketBatchSampler
from rnnnorm.studies.data.plain_training import named_class

THIN = 1 / 16
"""The tail begins where fewer than this share of the sequences is left: fewer than 2 of a batch of 32."""


def tail_start(lengths: Sequence[int], share: float = THIN) -> int:
    """t*, the first step (counted from 0) at which fewer than a share of the sequences is still running.

    Args:
        lengths: steps of each sequence.
        share: of the sequences.

    Raises:
        ValueError: no sequences, or a share outside (0, 1].
    """
    if not len(lengths):
        raise ValueError("lengths is empty: a tail needs sequences")
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")
    left = np.sort(np.asarray(lengths))[::-1]
    # Step t is reached by the sequences with more than t steps; the k-th longest one is the last to make k of them.
    enough = int(np.ceil(share * len(left)))
    return int(left[enough - 1])


class MixedBatchSampler(LengthBucketBatchSampler):
    """Batches of sequences as they come, whatever their lengths, as most public code makes them.

    Each example comes exactly once per epoch. Without `shuffle` the order is that of a fixed permutation.

    Args:
        lengths, batch_size, shuffle, seed, drop_last, num_replicas, rank: see `LengthBucketBatchSampler`.
    """

    def batches(self, epoch: int) -> list[list[int]]:
        """This process's batches of the given epoch, each a list of indices into `lengths`."""
        random = np.random.default_rng([self.seed, epoch] if self.shuffle else [self.seed])
        order = random.permutation(len(self.lengths)).tolist()
        size = self.batch_size * self.num_replicas
        if self.drop_last:
            order = order[: len(order) - len(order) % size]
        else:
            missing = -len(order) % self.num_replicas
            order += (order * (1 + missing // len(order)))[:missing]
        dealt = (order[k : k + size] for k in range(0, len(order), size))
        return [indices[self.rank :: self.num_replicas] for indices in dealt]


class Rearranged(Checked, L.LightningDataModule):
    """The data of another module in other splits, or in other batches.

    `split="tail"` makes the tail of the training sequences thin: t* is the first step that fewer than 1/16 of them
    reach; of those that reach it a `share` stays in training, the others are tested, and so are the long ones of the
    validation split. The per-step statistics of the late steps are then estimated from very few sequences and used for
    many. `batches="mixed"` makes batches of sequences as they come instead of batches of similar length, in all splits.

    Args:
        data: the module whose data they are.
        split: "own" or "tail".
        share: of the long training sequences that stay, for "tail"; at least one does.
        batches: "similar" (in length) or "mixed".
        shuffle_seed: of the order of the training batches; None: that of `data`.

    Raises:
        ValueError: an unknown split or kind of batches, or a share outside (0, 1).
    """

    ranges: ClassVar[Mapping[str, Range]] = {
        "split": one_of("own", "tail"),
        "share": between(0, 1, "()"),
        "batches": one_of("similar", "mixed"),
        "shuffle_seed": SEED,
    }

    def __init__(
        self,
        data: SequenceDataModule,
        split: str = "own",
        share: float = 0.1,
        batches: str = "similar",
        shuffle_seed: int | None = None,
    ) -> None:
        super().__init__()
        if shuffle_seed is not None:
            data.shuffle_seed = shuffle_seed
        self.data, self.split, self.share, self.batches = data, split, share, batches

    @property
    def spec(self) -> Spec:
        """That of the data; T_max is the longest sequence that is still in training."""
        return replace(self.data.spec, max_length=max(self.lengths("train")))

    @cached_property
    def splits(self) -> dict[str, list[Example]]:
        """The rearranged data.

        Raises:
            ValueError: all sequences of a split are long ones.
        """
        splits = self.data.splits
        if self.split == "own":
            return splits
        start = tail_start([len(rows) for rows, _ in splits["train"]])
        parts = {name: _divide(splits[name], start) for name in splits}
        for name in ("train", "val"):
            if not parts[name][0]:
                raise ValueError(f'split="tail": no sequence of the {name} split is shorter than {start + 1} steps')
        short, long = parts["train"]
        order = np.random.default_rng([self.data.seed, len(long)]).permutation(len(long))
        stay = max(round(self.share * len(long)), 1)
        return {
            "train": short + [long[k] for k in order[:stay]],
            "val": parts["val"][0],
            "test": splits["test"] + [long[k] for k in order[stay:]] + parts["val"][1],
        }

    def examples(self, split: str) -> list[Example]:
        """The (input, target) pairs of a split."""
        return self.splits[split]

    def lengths(self, split: str) -> list[int]:
        """Steps of each sequence of a split."""
        return [len(rows) for rows, _ in self.examples(split)]

    def _loader(self, split: str, batch_size: int) -> DataLoader[Any]:
        kind = MixedBatchSampler if self.batches == "mixed" else LengthBucketBatchSampler
        data = self.data
        plan = kind(self.lengths(split), batch_size, shuffle=split == "train", seed=data.shuffle_seed)
        made = partial(collate, task=data.task)
        return ResumableLoader(Examples(self.examples(split)), plan=plan, collate_fn=made, num_workers=data.num_workers)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of the training split, in a new order in each epoch."""
        return self._loader("train", self.data.batch_size)

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of the validation split, always the same."""
        return self._loader("val", self.data.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Any]:
        """Batches of the test split, always the same."""
        return self._loader("test", self.data.eval_batch_size)


def _divide(examples: Sequence[Example], start: int) -> tuple[list[Example], list[Example]]:
    """Sequences that end before step `start`, and those that reach it."""
    short = [example for example in examples if len(example[0]) <= start]
    return short, [example for example in examples if len(example[0]) > start]


REARRANGED = f"{__name__}.{Rearranged.__name__}"


def can_be_rearranged(class_path: str) -> bool:
    """Whether a data module is a `SequenceDataModule`; one that cannot be imported is complained about when it runs."""
    try:
        found = named_class(class_path)
    except ImportError:
        return True
    except AttributeError:
        return False
    return isinstance(found, type) and issubclass(found, SequenceDataModule)
