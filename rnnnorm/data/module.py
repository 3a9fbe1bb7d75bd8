"""Base classes of data modules: splits in memory, batches by length, loaders that resume."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar

import lightning as L
import numpy as np
from torch.utils.data import DataLoader, Dataset

from rnnnorm.common.ranges import SEED, Checked, Range, at_least
from rnnnorm.data.base import Batch, Spec, Task
from rnnnorm.data.checks import check_splits
from rnnnorm.data.collate import Example, collate
from rnnnorm.data.loader import ResumableLoader
from rnnnorm.data.sampler import LengthBucketBatchSampler


class Examples(Dataset[list[Example]]):
    """Sequences in memory, taken several at a time."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __getitem__(self, indices: Sequence[int]) -> list[Example]:
        return [self.examples[i] for i in indices]

    def __len__(self) -> int:
        return len(self.examples)


class SequenceDataModule(Checked, L.LightningDataModule):
    """Ragged sequences in three splits, handed out as `Batch`es of similar length.

    A subclass names its `task` and implements `load`, which returns the splits, and `spec`. Data are loaded once, when
    something of them is first asked for.

    Args:
        batch_size: sequences per batch (and process).
        eval_batch_size: the same for validation and test; None is `batch_size`.
        num_workers: processes that prepare batches; data in memory need none.
        seed: of everything random about the data: which examples there are, how they are split, and their order.
        shuffle_seed: of the order of the training batches alone, so that it can change while the data stay the same;
            None is `seed`.

    Raises:
        ValueError: an argument of another type than its annotation, or outside its range.
    """

    task: ClassVar[Task]
    reads: ClassVar[str] = "nothing: generated"
    drawn: ClassVar[bool] = False
    """Whether `seed` draws the examples themselves, not only splits and orders of what is in files."""
    ranges: ClassVar[Mapping[str, Range]] = {
        "batch_size": at_least(1),
        "eval_batch_size": at_least(1),
        "num_workers": at_least(0, 1000),
        "seed": SEED,
        "shuffle_seed": SEED,
    }

    def __init__(
        self,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        shuffle_seed: int | None = None,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.shuffle_seed = seed if shuffle_seed is None else shuffle_seed

    @abstractmethod
    def load(self) -> dict[str, list[Example]]:
        """Read or generate the data: lists of (input, target) under "train", "val" and "test"."""

    @property
    @abstractmethod
    def spec(self) -> Spec:
        """The shape of the data; usable right after construction."""

    @cached_property
    def splits(self) -> dict[str, list[Example]]:
        """The data, loaded at first use and looked at once; see `rnnnorm.data.checks`.

        Raises:
            ValueError: a split other than "val" is empty, or data that the spec does not allow: numbers that are not
                finite, tokens or classes out of range, other types or shapes, targets that are not as many as rows.
        """
        splits, name = self.load(), type(self).__name__
        check_splits(splits, name)
        vars(self)["splits"] = splits  # the spec may depend on them
        try:
            spec = self.spec
            if isinstance(spec, Spec):
                check_splits(splits, name, spec)
        except BaseException:
            del vars(self)["splits"]
            raise
        return splits

    def examples(self, split: str) -> list[Example]:
        """The (input, target) pairs of a split, in the order of the data.

        Raises:
            KeyError: there is no such split.
        """
        if split not in self.splits:
            raise KeyError(f"no split {split!r}: {', '.join(self.splits)} exist")
        return self.splits[split]

    def lengths(self, split: str) -> list[int]:
        """Steps of each sequence of a split, in the order of the data."""
        return [len(rows) for rows, _ in self.examples(split)]

    @property
    def max_length(self) -> int:
        """Steps of the longest training sequence."""
        return max(self.lengths("train"))

    def loader(self, split: str, batch_size: int, shuffle: bool) -> DataLoader[Any]:
        """A loader over one split.

        Args:
            split: "train", "val" or "test".
            batch_size: sequences per batch and process.
            shuffle: a new order in each epoch; otherwise always shortest first.
        """
        return ResumableLoader(
            Examples(self.examples(split)),
            plan=LengthBucketBatchSampler(self.lengths(split), batch_size, shuffle=shuffle, seed=self.shuffle_seed),
            collate_fn=partial(collate, task=self.task),
            num_workers=self.num_workers,
        )

    def training_sample(self, rows: int | None = None, late: int = 32) -> list[Batch]:
        """Training sequences for the estimation of population statistics, as batches in the order to be read.

        The same ones at every call: `rows` sequences drawn at random and, so that late steps are not left to a few of
        them, the longest ones until each step has `late` sequences or all that reach it; as one batch.

        Args:
            rows: sequences to draw; None: all.
            late: sequences that each step should have.
        """
        examples, lengths = self.examples("train"), self.lengths("train")
        chosen = list(range(len(examples)))
        if rows is not None and rows < len(examples):
            drawn = np.random.default_rng(self.seed).permutation(len(examples))[:rows].tolist()
            chosen = sorted({*drawn, *sorted(chosen, key=lengths.__getitem__)[-late:]})
        return [collate([examples[i] for i in chosen], task=self.task)]

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of the training split, in a new order in each epoch."""
        return self.loader("train", self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Batches of the validation split, always the same; [] if it has no sequences: nothing is validated."""
        if not self.splits.get("val"):
            return []
        return self.loader("val", self.eval_batch_size, shuffle=False)

    def test_dataloader(self) -> DataLoader[Any]:
        """Batches of the test split, always the same."""
        return self.loader("test", self.eval_batch_size, shuffle=False)


class FileDataModule(SequenceDataModule):
    """A `SequenceDataModule` whose data lie in files.

    Args:
        data_dir: where the data sets lie; None is the environment variable RNNNORM_DATA or else the user's cache
            folder. See `rnnnorm.data.files.locate`.
        download: fetch what is missing.
        **common: `batch_size`, `eval_batch_size`, `num_workers`, `seed`: see `SequenceDataModule`.
    """

    reads: ClassVar[str] = "files in --data-dir, or downloads"

    def __init__(self, data_dir: str | None = None, download: bool = True, **common: Any) -> None:
        super().__init__(**common)
        self.data_dir = data_dir
        self.download = download
