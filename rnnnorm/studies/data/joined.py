"""Long recordings of several short ones, as in continuous speech, with the class of the moment as target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rnnnorm.common.ranges import Range, at_least
from rnnnorm.data.base import Spec
from rnnnorm.data.collate import Example
from rnnnorm.data.lengths import LengthDistribution, sample_lengths
from rnnnorm.data.module import SequenceDataModule
from rnnnorm.data.synthetic import Generated, Integers


class Words(Generated):
    """Made-up spoken words: each is a path through the space of features, walked at varying speed and with noise.

    The path of a class goes straight from one point to a second and a third one, drawn from N(0, 1) by `seed`; a word
    of L rows has them at L even places of that path, plus noise. Its target is its class.

    Args:
        num_words: classes.
        num_features: of a row.
        noise: standard deviation of what is added to each feature.
        **keys: see `rnnnorm.data.Generated`.
    """

    task = "classification"
    ranges: ClassVar[Mapping[str, Range]] = {
        "num_words": at_least(2), "num_features": at_least(1), "noise": at_least(0.0)
    }  # fmt: skip

    def __init__(self, num_words: int = 10, num_features: int = 13, noise: float = 1.0, **keys: Any) -> None:
        super().__init__(**keys)
        self.num_words, self.num_features, self.noise = num_words, num_features, noise

    @property
    def spec(self) -> Spec:
        """Features, and a class per word."""
        return Spec(
            self.task, num_features=self.num_features, num_outputs=self.num_words, max_length=self.length_range[1]
        )

    def generate(self, lengths: Integers, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Make (N, num_features) rows and (B,) classes."""
        corners = np.random.default_rng([self.seed, len(self.counts)]).normal(
            size=(self.num_words, 3, self.num_features)
        )
        classes = random.integers(self.num_words, size=len(lengths))
        number = np.repeat(np.arange(len(lengths)), lengths)
        step = np.arange(len(number)) - np.repeat(lengths.cumsum() - lengths, lengths)
        way = 2 * (step + 0.5) / lengths[number]
        leg = way.astype(np.int64)  # 0 or 1
        before, after = (corners[classes[number], leg + k] for k in (0, 1))
        rows = before + (way - leg)[:, None] * (after - before)
        rows += self.noise * random.normal(size=rows.shape)
        return torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(classes)


class Joined(SequenceDataModule):
    """Several sequences of a classification task in a row, each row with the class of the sequence that it is of.

    The number of sequences that make one is heavy-tailed (`rnnnorm.data.lengths`), so that most of a batch of mixed
    lengths is padding. They are drawn from the same split, each independently of the others; which, and how many,
    depends on `seed`, of files, too.

    Args:
        data: the module whose sequences are joined.
        most: how many make the longest one.
        stride: only every so many rows are taken, from the first one of a sequence on.
        num_train, num_val, num_test: joined sequences of the splits.
        length_distribution: of the number of sequences that make one.
        **common: `batch_size`, `eval_batch_size`, `num_workers`, `seed`: see `rnnnorm.data.SequenceDataModule`.

    Raises:
        ValueError: `data` is no classification.
    """

    task = "tagging"
    drawn: ClassVar[bool] = True
    ranges: ClassVar[Mapping[str, Range]] = dict.fromkeys(
        ("most", "stride", "num_train", "num_val", "num_test"), at_least(1)
    )

    def __init__(
        self,
        data: SequenceDataModule,
        most: int = 10,
        stride: int = 1,
        num_train: int = 1000,
        num_val: int = 200,
        num_test: int = 1000,
        length_distribution: LengthDistribution = "heavy-tailed",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if data.task != "classification":
            raise ValueError(f"data must be a classification, whose sequences have one class each, got {data.task}")
        self.data, self.most, self.stride, self.length_distribution = data, most, stride, length_distribution
        self.counts = {"train": num_train, "val": num_val, "test": num_test}

    @property
    def spec(self) -> Spec:
        """That of the data, with a class per row."""
        inner = self.data.spec
        return Spec(
            self.task, num_features=inner.num_features, num_outputs=inner.num_outputs, max_length=self.max_length
        )

    def load(self) -> dict[str, list[Example]]:
        """Join sequences of each split."""
        made = {}
        for number, (split, count) in enumerate(self.counts.items()):
            parts, random = self.data.examples(split), np.random.default_rng([self.seed, number])
            joined = sample_lengths(self.length_distribution, count, 1, self.most, random)
            made[split] = [self._join([parts[k] for k in random.integers(len(parts), size=n)]) for n in joined]
        return made

    def _join(self, parts: list[Example]) -> Example:
        rows = [row[:: self.stride] for row, _ in parts]
        return torch.cat(rows), torch.cat(
            [target.expand(len(row)) for row, (_, target) in zip(rows, parts, strict=True)]
        )
