"""Base class of data modules that tag words: sentences to rows of word features and ids of tags."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from torchtext.data import Dataset, Field, Pipeline
from torchtext.data import Example as Row

from rnnnorm.common.ranges import Range, at_least
from rnnnorm.data.base import Spec, Task
from rnnnorm.data.collate import Example
from rnnnorm.data.tokens import TokenDataModule
from rnnnorm.data.vocabulary import encode, label_field, token_field
from rnnnorm.data.word_features import FEATURES, check_features


class Tagged(NamedTuple):
    """A sentence: its words and their tags, one entry a word, and the place of the first one.

    Args:
        words: spelled as in the text.
        tags: as in the file.
        source: the file.
        line: the line of the first word, from 1; the others follow, a line each.
    """

    words: list[str]
    tags: list[str]
    source: str = ""
    line: int = 1


class WordTagging(TokenDataModule):
    """A `TokenDataModule` whose rows are words, given by one token id per feature, and whose targets are their tags.

    Every feature is a torchtext `Field` over the same column of words, with a vocabulary of its own that is built on
    the training sentences.

    Args:
        features: the columns of a row, in this order; see `rnnnorm.data.word_features.FEATURES`.
        lower: lower-case the feature "word"; affixes always are, "shape" never is.
        min_freq: a token seen fewer times in the training sentences becomes ``<unk>``. With 1 no training word is
            unknown, and the embedding of ``<unk>`` remains what it was at initialization.
        max_train_length: train on the sentences of at most this many words, and validate and test on all; None trains
            on all.
        **common: see `SequenceDataModule`.

    Raises:
        ValueError: unknown features, a frequency or length below 1.
    """

    task: ClassVar[Task] = "tagging"
    ranges: ClassVar[Mapping[str, Range]] = dict.fromkeys(("min_freq", "max_train_length"), at_least(1))
    unknown_labels = True
    """Whether validation and test may have tags that training has not."""

    def __init__(
        self,
        features: Sequence[str] = tuple(FEATURES),
        lower: bool = True,
        min_freq: int = 2,
        max_train_length: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.features = check_features(features)
        self.lower = lower
        self.min_freq = min_freq
        self.max_train_length = max_train_length

    @property
    @abstractmethod
    def source(self) -> str:
        """What is read, for error messages."""

    @abstractmethod
    def read(self) -> dict[str, list[Tagged]]:
        """The sentences of each split."""

    @cached_property
    def _loaded(self) -> tuple[dict[str, Field], dict[str, list[Example]]]:
        """The fields with their vocabularies, and the splits as ids.

        torchtext's data sets serve to build the vocabularies and are not kept: they can be neither pickled nor copied.
        """
        sentences = self.read()
        if self.max_train_length is not None:
            sentences["train"] = [s for s in sentences["train"] if len(s.words) <= self.max_train_length]
        if not sentences["train"]:
            raise ValueError(f"{self.source} has no training sentence of at most {self.max_train_length} words")
        words = [
            token_field(lower=self.lower and name == "word", convert=Pipeline(FEATURES[name])) for name in self.features
        ]
        tags = label_field(
            (tag for s in sentences["train"] for tag in s.tags),
            (
                (f"{s.source}, line {line}", tag)
                for split in ("val", "test")
                for s in sentences[split]
                for line, tag in enumerate(s.tags, start=s.line)
            ),
            self.unknown_labels,
        )
        # torchtext's way of making several columns of one: a pair of tuples, of names and of fields.
        columns = [(self.features, tuple(words)), ("tags", tags)]
        datasets = {
            split: Dataset([Row.fromlist([s.words, s.tags], columns) for s in every], columns)
            for split, every in sentences.items()
        }
        for field in words:
            field.build_vocab(datasets["train"], min_freq=self.min_freq)
        fields = dict(zip(self.features, words, strict=True)) | {"tags": tags}
        return fields, {split: self._encoded(fields, dataset, split) for split, dataset in datasets.items()}

    def _encoded(self, fields: dict[str, Field], dataset: Dataset, split: str) -> list[Example]:
        source = f"{self.source}, {split}"
        ids = {name: encode(field, getattr(dataset, name), source) for name, field in fields.items()}
        rows = zip(*(ids[name] for name in self.features), strict=True)
        return [(torch.stack(columns, dim=1), tags) for columns, tags in zip(rows, ids["tags"], strict=True)]

    @property
    def vocabularies(self) -> dict[str, list[str]]:
        """Tokens in the order of their ids, for each feature and for "tags"."""
        return {name: field.vocab.itos for name, field in self._loaded[0].items()}

    @property
    def class_names(self) -> list[str]:
        """The tags in the order of their ids, the most frequent first."""
        return self.vocabularies["tags"]

    def load(self) -> dict[str, list[Example]]:
        """Read the splits and turn tokens and tags into ids."""
        return self._loaded[1]

    @cached_property
    def spec(self) -> Spec:
        """One column per feature, one output per tag."""
        sizes = {name: len(tokens) for name, tokens in self.vocabularies.items()}
        outputs = sizes.pop("tags")
        return Spec(self.task, vocabularies=tuple(sizes.values()), num_outputs=outputs, max_length=self.max_length)
