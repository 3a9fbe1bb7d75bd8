"""Base class of language modelling: the next token of running text, by sentences, by segments or as one stream."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property, partial
from itertools import chain, islice
from typing import Any, ClassVar, Literal

import torch
import torch.distributed
from torch import Tensor
from torch.utils.data import DataLoader
from torchtext.data import Field

from rnnnorm.common.ranges import Range, at_least
from rnnnorm.data import corpus
from rnnnorm.data.base import Batch, Spec, Task
from rnnnorm.data.collate import Example, collate
from rnnnorm.data.files import LONGEST_LINE
from rnnnorm.data.loader import ResumableLoader, as_is
from rnnnorm.data.sampler import InOrder
from rnnnorm.data.segments import Segments, SegmentSampler, cut_segments
from rnnnorm.data.stream import Stream
from rnnnorm.data.tokens import TokenDataModule
from rnnnorm.data.vocabulary import encode, token_field

Mode = Literal["sentences", "segments", "stream"]


class RunningText(TokenDataModule):
    """The next token of running text, sentence by sentence, by segments of one length or as one stream.

    The vocabulary is that of the training split, ``<unk>`` first and the others by frequency. At word level it has
    ``<eos>``, the end of a line. At character level a line ends with its line feed.

    ``mode="sentences"``: independent ragged sequences. A sequence is a unit of the text that is not blank, by default a
    line. The token that ends a line is also put before its first one, in place of a <bos>: input <eos> w_1 … w_n,
    target w_1 … w_n <eos>, n + 1 steps; every token of the line is predicted, and so is its end. Sequences longer than
    `max_length` steps are cut into pieces, each of which begins with the token before its first target, so the tokens
    predicted stay the same and only what is known before them changes.

    ``mode="segments"``: independent segments of `segment_length` steps, each from the initial state, as in Cooijmans et
    al. (2017), whose segments of 100 characters have 99 steps. In training their places are moved by one random offset
    per epoch; in evaluation they follow each other from the first token on. What is left at the end is left out. With
    several `test_lengths` the test split is read once in segments of each length: the results "by length" then say what
    a model makes of sequences longer than those that it was trained on.

    ``mode="stream"``: the text as `batch_size` parallel streams, `bptt` steps at a time, in the order of the text;
    every batch but the first of an epoch `continues` the one before. See `rnnnorm.data.stream.Stream`.
    Blank lines are one ``<eos>`` each, as in published results on WikiText-2. The splits then are one example each.

    Args:
        level: "word" (between white space) or "char".
        mode: "sentences", "segments" or "stream".
        max_length: steps after which a sequence is cut, in every split; None never cuts. For mode "sentences". A few
            lines of WikiText-2 reach 700 steps and a few speeches 3,000, where a batch is one long tail.
        bptt: steps per batch, for mode "stream".
        segment_length: steps of a segment, for mode "segments"; None: 100.
        test_lengths: steps of the segments of the test split, for mode "segments"; None: `segment_length`. The test
            score is the mean over all predictions, so over the lengths, too.
        min_freq: words seen fewer times in the training split become ``<unk>``. Published corpora have theirs in the
            text already; raise it for raw text, or ``<unk>`` is met for the first time in validation.
        **common: see `SequenceDataModule`. In mode "stream" `batch_size` counts parallel streams (per process), and
            nothing depends on `seed`.

    Raises:
        ValueError: an unknown level or mode, a length or frequency below 1, `test_lengths` that are empty, repeated or
            of another mode; when data are read, a text that is too short.
    """

    task: ClassVar[Task] = "language-modelling"
    ranges: ClassVar[Mapping[str, Range]] = dict.fromkeys(
        ("max_length", "bptt", "segment_length", "min_freq"), at_least(1)
    )
    separator = "\n"
    """What stands between the units of the text."""

    def __init__(
        self,
        level: corpus.Level = "word",
        mode: Mode = "sentences",
        max_length: int | None = 512,
        bptt: int = 35,
        min_freq: int = 1,
        segment_length: int | None = None,
        test_lengths: list[int] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if test_lengths is not None:
            if mode != "segments":
                raise ValueError(f"test_lengths={test_lengths} are those of segments, got mode={mode!r}")
            if not test_lengths or min(test_lengths) < 1 or len(set(test_lengths)) < len(test_lengths):
                raise ValueError(f"test_lengths must be different numbers of steps from 1 on, got {test_lengths}")
        self.level: corpus.Level = level
        self.mode = mode
        self.cut_length = max_length
        self.bptt = bptt
        self.segment_length = segment_length or 100
        self.test_lengths = test_lengths or [self.segment_length]
        self.min_freq = min_freq

    @property
    @abstractmethod
    def source(self) -> str:
        """What is read, for error messages."""

    @abstractmethod
    def read(self, longest: int | None) -> dict[str, str]:
        """The raw text of each split, in which a line has at most `longest` characters."""

    @cached_property
    def texts(self) -> dict[str, str]:
        """The raw text of each split."""
        return self.read(LONGEST_LINE if self.mode == "sentences" else None)  # a stream may be a single line

    @cached_property
    def field(self) -> Field:
        """The torchtext field of the tokens, with its vocabulary."""
        field = token_field()
        field.build_vocab(corpus.stream(self.texts["train"], self.level), min_freq=self.min_freq)
        return field

    @property
    def vocabularies(self) -> dict[str, list[str]]:
        """The tokens in the order of their ids."""
        return {self.level: self.field.vocab.itos}

    def load(self) -> dict[str, list[Example]]:
        """Read the splits and turn tokens into ids."""
        read = {"sentences": self._sentences, "segments": self._segments, "stream": self._stream}[self.mode]
        splits = {split: read(split) if text else [] for split, text in self.texts.items()}
        self.__dict__.pop("texts")  # they have served
        return splits

    def _sentences(self, split: str) -> list[Example]:
        tokens = corpus.sentences(self.texts[split], self.level, self.separator)
        sequences = encode(self.field, tokens, f"{self.source}, {split}")
        return list(chain.from_iterable(_pieces(ids, self.cut_length) for ids in sequences))

    def _stream(self, split: str) -> list[Example]:
        return _pieces(self._ids(split), None)

    def _segments(self, split: str) -> list[Example]:
        ids = self._ids(split)
        try:
            lengths = self.test_lengths if split == "test" else [self.segment_length]
            return list(chain.from_iterable(cut_segments(ids, length) for length in lengths))
        except ValueError as error:
            raise ValueError(f"the {split} split of {self.source}: {error}") from error

    def _ids(self, split: str) -> Tensor:
        """All tokens of a split, (L,)."""
        tokens = corpus.stream(self.texts[split], self.level)
        return torch.cat(encode(self.field, tokens, f"{self.source}, {split}"))

    @property
    def max_length(self) -> int:
        """Steps of the longest training sequence; in mode "stream" `bptt`."""
        return self.bptt if self.mode == "stream" else super().max_length

    @cached_property
    def spec(self) -> Spec:
        """One column of tokens, and as many outputs as there are tokens."""
        size = len(self.field.vocab)
        return Spec(self.task, vocabularies=(size,), num_outputs=size, max_length=self.max_length)

    def loader(self, split: str, batch_size: int, shuffle: bool) -> DataLoader[Any]:
        """A loader over one split; in mode "stream" always in the order of the text."""
        if self.mode == "segments" and split == "train" and shuffle:
            return self._moving(batch_size)
        if self.mode != "stream":
            return super().loader(split, batch_size, shuffle)
        [(inputs, targets)] = self.examples(split)
        parallel = torch.distributed.is_available() and torch.distributed.is_initialized()
        try:
            stream = Stream(
                torch.cat([inputs[:1, 0], targets]),
                batch_size,
                self.bptt,
                rank=torch.distributed.get_rank() if parallel else 0,
                world_size=torch.distributed.get_world_size() if parallel else 1,
            )
        except ValueError as error:
            raise ValueError(f"the {split} split of {self.source}: {error}") from error
        return ResumableLoader(stream, InOrder(len(stream)), collate_fn=as_is, num_workers=self.num_workers)

    def _moving(self, batch_size: int) -> DataLoader[Any]:
        """A loader over training segments from another offset in each epoch."""
        examples = self.examples("train")
        ids = torch.cat([examples[0][0][:1, 0], *(target for _, target in examples)])
        try:
            plan = SegmentSampler(len(ids), self.segment_length, batch_size, seed=self.shuffle_seed)
        except ValueError as error:
            raise ValueError(f"the train split of {self.source}: {error}") from error
        return ResumableLoader(
            Segments(ids, self.segment_length),
            plan=plan,
            collate_fn=partial(collate, task=self.task),
            num_workers=self.num_workers,
        )

    def training_sample(self, rows: int | None = None, late: int = 32) -> list[Batch]:
        """Training sequences for population statistics; in mode "stream" its first batches, until they have `rows`."""
        if self.mode != "stream":
            return super().training_sample(rows, late)
        loader = self.loader("train", self.batch_size, shuffle=False)
        return list(islice(loader, None if rows is None else -(-rows // self.batch_size)))


def _pieces(ids: Tensor, max_length: int | None) -> list[Example]:
    """Input x_1 … x_{T-1} and target x_2 … x_T, cut after `max_length` steps."""
    length = max_length or len(ids)
    return list(zip(torch.split(ids[:-1, None], length), torch.split(ids[1:], length), strict=True))
