"""Generated problems, which need no files: what must be remembered, and for how long, is known exactly."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnnnorm.common.ranges import Range, at_least, one_of
from rnnnorm.data.base import Spec
from rnnnorm.data.collate import PER_ROW, Example
from rnnnorm.data.lengths import LengthDistribution, sample_lengths
from rnnnorm.data.module import SequenceDataModule

Integers = NDArray[np.int64]


class Generated(SequenceDataModule):
    """Base of the generated problems: draws lengths, then all sequences of a split at once.

    Each split has a random stream of its own, made of `seed` and the split: the test sequences do not depend on how
    many training sequences there are, and no sequence depends on the order in which loaders read them.

    Args:
        num_train: training sequences.
        num_val: validation sequences.
        num_test: test sequences.
        length_distribution: "fixed", "uniform" or "heavy-tailed"; see `rnnnorm.data.lengths.sample_lengths`.
        min_length: steps of the shortest sequence; without effect on "fixed".
        max_length: steps of the longest sequence.
        **common: `batch_size`, `eval_batch_size`, `num_workers`, `seed`: see `SequenceDataModule`.

    Raises:
        ValueError: a split has no sequences, the shortest sequence has no room for the problem, or the minimum length
            is above the maximum.
    """

    drawn: ClassVar[bool] = True
    ranges: ClassVar[Mapping[str, Range]] = dict.fromkeys(
        ("num_train", "num_val", "num_test", "min_length", "max_length"), at_least(1)
    )

    def __init__(
        self,
        num_train: int = 4000,
        num_val: int = 1000,
        num_test: int = 1000,
        length_distribution: LengthDistribution = "heavy-tailed",
        min_length: int = 10,
        max_length: int = 100,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.counts = {"train": num_train, "val": num_val, "test": num_test}
        self.length_distribution = length_distribution
        self.length_range = (max_length if length_distribution == "fixed" else min_length, max_length)
        self._sample_lengths(0, np.random.default_rng(0))  # checks the keys now and not in the middle of a run

    @abstractmethod
    def generate(self, lengths: Integers, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Make sequences of the given lengths.

        Returns:
            all rows, (N, …), sequence after sequence, and the targets, (N, …) or (len(lengths), …).
        """

    def load(self) -> dict[str, list[Example]]:
        """Generate the three splits."""
        splits = {}
        for number, (split, count) in enumerate(self.counts.items()):
            random = np.random.default_rng([self.seed, number])
            lengths = self._sample_lengths(count, random)
            rows, targets = self.generate(lengths, random)
            sizes = lengths.tolist()
            per_sequence = torch.split(targets, sizes) if self.task in PER_ROW else targets.unbind()
            splits[split] = list(zip(torch.split(rows, sizes), per_sequence, strict=True))
        return splits

    def _sample_lengths(self, count: int, random: np.random.Generator) -> Integers:
        return sample_lengths(self.length_distribution, count, *self.length_range, random)

    def _require(self, shortest: int) -> None:
        """Check that the problem fits into the shortest sequence."""
        key = "max_length" if self.length_distribution == "fixed" else "min_length"
        at_least(shortest, kinds=(int,)).check(key, self.length_range[0])


class AddingProblem(Generated):
    """Adding problem: the sum of two marked numbers in a sequence (Hochreiter & Schmidhuber 1997, experiment 4).

    Row t is (x_t, m_t), x_t uniform on [0, 1). The marker m_t is 1 at one step of the first half and at one step of the
    second half of the sequence, and 0 elsewhere; the target is the sum of the two marked numbers. This is the form of
    Le, Jaitly & Hinton (2015) and Arjovsky et al. (2016); the halves are those of each sequence's own length. Always
    answering 1 has a mean squared error of 2·Var(x) = 1/6 ≈ 0.167: a network that learns anything is below that.

    Args:
        **keys: see `Generated`. The shortest sequence has 2 steps.
    """

    task = "regression"

    def __init__(self, **keys: Any) -> None:
        super().__init__(**keys)
        self._require(2)

    @property
    def spec(self) -> Spec:
        """Two features, one number to predict."""
        return Spec(self.task, num_features=2, num_outputs=1, max_length=self.max_length)

    def generate(self, lengths: Integers, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Make (N, 2) rows and (B, 1) sums."""
        rows = np.zeros((lengths.sum(), 2), dtype=np.float32)
        rows[:, 0] = random.random(len(rows), dtype=np.float32)
        half = lengths // 2
        starts = lengths.cumsum() - lengths
        first = starts + random.integers(0, half)
        second = starts + random.integers(half, lengths)
        rows[first, 1] = rows[second, 1] = 1
        return torch.from_numpy(rows), torch.from_numpy(rows[first, 0] + rows[second, 0]).unsqueeze(1)


class DelayedRecall(Generated):
    """Copying problem: a few symbols are repeated after a delay (experiment 5.1 of Arjovsky, Shah & Bengio 2016).

    With K symbols to recall, a sequence of L steps reads K random symbols, then L - 2K - 1 blanks, one "go" sign and K
    more blanks; the targets are L - K times the class "blank" and then the K symbols in their order. Every step thus
    has a target, as in the published form, and a share of (L - K) / L is easily right: of 10-step sequences with K = 3,
    70 %. Only what is above (L - K + K / num_symbols) / L is memory, and the accuracy per step shows it.

    The lengths of the sequences are the lengths of the delays, which a network cannot know before the sign comes.

    Args:
        num_recall: K, symbols to recall.
        num_symbols: different symbols.
        **keys: see `Generated`. The shortest sequence has 2K + 1 steps.

    Raises:
        ValueError: no symbols to recall, fewer than 2 different ones, or sequences too short for them.
    """

    task = "tagging"
    ranges: ClassVar[Mapping[str, Range]] = {"num_recall": at_least(1), "num_symbols": at_least(2)}

    def __init__(self, num_recall: int = 3, num_symbols: int = 8, **keys: Any) -> None:
        super().__init__(**keys)
        self.num_recall = num_recall
        self.num_symbols = num_symbols
        self._require(2 * num_recall + 1)

    @property
    def spec(self) -> Spec:
        """Tokens are the symbols, the blank and the sign; classes are the symbols and the blank."""
        return Spec(
            self.task,
            vocabularies=(self.num_symbols + 2,),
            num_outputs=self.num_symbols + 1,
            max_length=self.max_length,
        )

    def generate(self, lengths: Integers, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Make (N, 1) tokens and (N,) classes."""
        blank, go = self.num_symbols, self.num_symbols + 1
        symbols = random.integers(self.num_symbols, size=(len(lengths), self.num_recall))
        ends = lengths.cumsum()[:, None]
        places = np.arange(self.num_recall)
        tokens = np.full(lengths.sum(), blank)
        tokens[ends - lengths[:, None] + places] = symbols
        tokens[ends - self.num_recall - 1] = go
        classes = np.full(len(tokens), blank)
        classes[ends - self.num_recall + places] = symbols
        return torch.from_numpy(tokens).unsqueeze(1), torch.from_numpy(classes)


class TemporalOrder(Generated):
    """Temporal order: the order of the relevant symbols (Hochreiter & Schmidhuber 1997, experiments 6a and 6b).

    A sequence is E, then symbols drawn from {a, b, c, d}, then B; at two (6a) or three (6b) places among them stands a
    relevant symbol, X or Y. The class is which of X and Y stood at the first, second (and third) place: 2^n classes,
    the first place being the most significant digit. In the original, lengths are 100 to 110 and the places fall into
    10-20 and 50-60 (6a), or 10-20, 33-43 and 66-76 (6b); here they are at the same fractions of each sequence's own
    length, so that long and short sequences pose the same problem over different distances.

    Args:
        num_relevant: relevant symbols, 2 (experiment 6a) or 3 (6b).
        **keys: see `Generated`. The shortest sequence has 10 steps.

    Raises:
        ValueError: another number of relevant symbols, or sequences shorter than 10 steps.
    """

    task = "classification"

    SYMBOLS = "abcdXYEB"
    PLACES = {2: (0.10, 0.50), 3: (0.10, 0.33, 0.66)}  # noqa: RUF012
    ranges: ClassVar[Mapping[str, Range]] = {"num_relevant": one_of(*PLACES)}

    def __init__(self, num_relevant: int = 2, **keys: Any) -> None:
        super().__init__(**keys)
        self.num_relevant = num_relevant
        self._require(10)

    @property
    def spec(self) -> Spec:
        """Eight symbols, 4 or 8 classes."""
        return Spec(
            self.task,
            vocabularies=(len(self.SYMBOLS),),
            num_outputs=2**self.num_relevant,
            max_length=self.max_length,
        )

    def generate(self, lengths: Integers, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Make (N, 1) tokens and (B,) classes."""
        starts = lengths.cumsum() - lengths
        tokens = random.integers(self.SYMBOLS.index("X"), size=lengths.sum())
        tokens[starts] = self.SYMBOLS.index("E")
        tokens[starts + lengths - 1] = self.SYMBOLS.index("B")
        classes = np.zeros(len(lengths), dtype=np.int64)
        for fraction in self.PLACES[self.num_relevant]:
            place = np.floor(lengths * random.uniform(fraction, fraction + 0.1, size=len(lengths))).astype(np.int64)
            relevant = random.integers(2, size=len(lengths))
            tokens[starts + place] = self.SYMBOLS.index("X") + relevant
            classes = 2 * classes + relevant
        return torch.from_numpy(tokens).unsqueeze(1), torch.from_numpy(classes)
