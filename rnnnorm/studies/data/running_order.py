"""A generated source with a target at every step and a state that never ends: which marks came last, and before?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader, Dataset

from rnnnorm.common.ranges import Range, at_least, between
from rnnnorm.data.base import Batch, Spec
from rnnnorm.data.collate import Example
from rnnnorm.data.loader import ResumableLoader, as_is
from rnnnorm.data.sampler import InOrder
from rnnnorm.data.synthetic import Generated, Integers


class RunningOrder(Generated):
    """Say at every step in which order the last two marks came: temporal order without an end.

    A sequence is drawn from `num_noise` symbols without meaning and, with probability `rate` at each step, one of the
    marks X and Y. The target of a step is the pair of the last two marks, this step included, as one of four classes;
    before the first ones both are X. As in Hochreiter & Schmidhuber's temporal order (1997, experiment 6a) the order of
    two symbols must be kept over a distance, but the answer is asked for all the time, and it can go on for ever: the
    classes mix over about 1 / rate steps. A memory of all marks has accuracy 1.

    Args:
        rate: probability of a mark, between 0 and 1.
        num_noise: symbols without meaning.
        **keys: see `rnnnorm.data.synthetic.Generated`.

    Raises:
        ValueError: a rate outside (0, 1), or no symbol without meaning.
    """

    task = "tagging"
    ranges: ClassVar[Mapping[str, Range]] = {"rate": between(0, 1, "()"), "num_noise": at_least(1)}

    def __init__(self, rate: float = 0.1, num_noise: int = 4, **keys: Any) -> None:
        self.rate = rate
        self.num_noise = num_noise
        super().__init__(**keys)

    @property
    def spec(self) -> Spec:
        """The symbols, and four classes."""
        return Spec(self.task, vocabularies=(self.num_noise + 2,), num_outputs=4, max_length=self.max_length)

    def generate(self, lengths: Integers, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Make (N, 1) tokens and (N,) classes."""
        tokens = random.integers(self.num_noise, size=lengths.sum())
        marked = random.random(len(tokens)) < self.rate
        tokens[marked] = self.num_noise + random.integers(2, size=int(marked.sum()))
        classes = [last_two(part, self.num_noise) for part in np.split(tokens, lengths.cumsum()[:-1])]
        return torch.from_numpy(tokens).unsqueeze(1), torch.from_numpy(np.concatenate(classes))


def last_two(tokens: Integers, first_mark: int) -> Integers:
    """The last two marks at each step of one sequence, 2 · (the one before last) + (the last one), each 0 or 1.

    Args:
        tokens: (T,).
        first_mark: the token of mark 0; that of mark 1 follows.
    """
    places = np.flatnonzero(tokens >= first_mark)
    marks = np.concatenate([[0, 0], tokens[places] - first_mark])
    seen = np.searchsorted(places, np.arange(len(tokens)), side="right")  # marks up to each step, itself included
    return np.asarray(2 * marks[seen] + marks[seen + 1])


class RunningOrderStream(RunningOrder):
    """Running order as parallel streams that are read a segment at a time, each from the state the last one left.

    Each split is `batch_size` (`eval_batch_size`) sequences of `segments` · `bptt` steps. Batch k holds their steps
    from k · bptt to (k + 1) · bptt - 1 and continues batch k - 1. Without the state (`Batch.continues` set to False) it
    is the same text whose past is unknown.

    Args:
        bptt: steps of a segment.
        segments: segments of the training streams.
        eval_segments: segments of the validation and test streams.
        **keys: `rate`, `num_noise`, `batch_size`, `eval_batch_size`, `num_workers`, `seed`.

    Raises:
        ValueError: no steps or no segments.
    """

    ranges: ClassVar[Mapping[str, Range]] = dict.fromkeys(("bptt", "segments", "eval_segments"), at_least(1))

    def __init__(self, bptt: int = 40, segments: int = 200, eval_segments: int = 40, **keys: Any) -> None:
        self.bptt = bptt
        self.segments = {"train": segments, "val": eval_segments, "test": eval_segments}
        super().__init__(length_distribution="fixed", max_length=bptt, **keys)
        self.counts = {"train": self.batch_size, "val": self.eval_batch_size, "test": self.eval_batch_size}

    @property
    def max_length(self) -> int:
        """Steps of a segment."""
        return self.bptt

    def load(self) -> dict[str, list[Example]]:
        """Generate the three splits, stream by stream."""
        splits = {}
        for number, (split, count) in enumerate(self.counts.items()):
            lengths = np.full(count, self.segments[split] * self.bptt)
            rows, targets = self.generate(lengths, np.random.default_rng([self.seed, number]))
            sizes = lengths.tolist()
            splits[split] = list(zip(torch.split(rows, sizes), torch.split(targets, sizes), strict=True))
        return splits

    def loader(self, split: str, batch_size: int, shuffle: bool) -> DataLoader[Any]:
        """A loader over one split, always in the order of the streams."""
        segments = Segments(self.examples(split), self.bptt)
        return ResumableLoader(segments, InOrder(len(segments)), collate_fn=as_is, num_workers=self.num_workers)


class Segments(Dataset[Batch]):
    """Sequences of equal length, all of them at once, a few steps at a time.

    Args:
        examples: (input, target) pairs of equal length, a multiple of `bptt`.
        bptt: steps of an item.
    """

    def __init__(self, examples: Sequence[Example], bptt: int) -> None:
        self._rows = torch.stack([rows for rows, _ in examples], 1)  # (L, B, 1)
        self._targets = torch.stack([targets for _, targets in examples], 1)
        self._bptt = bptt

    def __len__(self) -> int:
        return len(self._rows) // self._bptt

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(f"segment {index} of {len(self)}")
        here = slice(index * self._bptt, (index + 1) * self._bptt)
        rows, targets = self._rows[here], self._targets[here]
        sizes = torch.full((self._bptt,), rows.shape[1], dtype=torch.int64)
        return Batch(PackedSequence(rows.flatten(0, 1), sizes), targets.flatten(), index > 0)
