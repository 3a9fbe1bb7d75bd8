"""The user's own labelled texts: a CSV or TSV file with a column of texts and a column of labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torchtext.data import Field

from rnnnorm.common.ranges import Range, at_least
from rnnnorm.data.base import Spec, Task
from rnnnorm.data.collate import Example
from rnnnorm.data.corpus import Level
from rnnnorm.data.own_files import OwnFiles
from rnnnorm.data.table import Dialect, Table
from rnnnorm.data.tokens import TokenDataModule
from rnnnorm.data.vocabulary import encode, label_field, token_field


class Labelled(NamedTuple):
    """One text: its tokens, its label, and its place in the file."""

    tokens: list[str]
    label: str
    where: str


class LabelledText(OwnFiles, TokenDataModule):
    """Your own texts by their label, such as utterances by intent: a column each of a CSV or TSV file.

    Files are read by Python's `csv` module: a field in double quotes may contain delimiters, line feeds and, doubled,
    double quotes. Blank lines are skipped. The vocabulary is that of the training texts.

    Args:
        train: the training file.
        val: the validation file; None takes `val_share` of the training file.
        test: the test file; None takes `test_share` of the training file.
        text: the column of texts: its name in the header, or its number from 0, from the end if negative.
        label: the column of labels, likewise.
        header: whether the first line has the names of the columns.
        delimiter: the character between columns, "tab" for a tab; None: a tab in ".tsv" and ".tab" files, else a comma.
        quotes: whether double quotes have a meaning; otherwise they are characters like others.
        level: tokens are words (between white space) or characters: "word" or "char".
        lower: lower-case the texts.
        min_freq: tokens seen fewer times in the training texts become ``<unk>``. With 1 no training token is unknown,
            and the embedding of ``<unk>`` remains what it was at initialization.
        max_size: the most frequent tokens that the vocabulary keeps beside ``<unk>``; None keeps all.
        unknown_labels: whether validation and test may have labels that training has not. These become one class
            ``<unk>``, which no model gets right; otherwise they are an error.
        **common: `val_share`, `test_share`, `split_seed`, `data_dir`, `batch_size`, `eval_batch_size`, `num_workers`,
            `seed`: see `OwnFiles` and `SequenceDataModule`.

    Raises:
        ValueError: when data are read, a column that does not exist or is there twice, a row with more or fewer columns
            than the first, a text or label that is empty, a label that training has not; it names the file and the
            line.
    """

    task: ClassVar[Task] = "classification"
    ranges: ClassVar[Mapping[str, Range]] = {"min_freq": at_least(1), "max_size": at_least(1)}

    def __init__(
        self,
        train: str = "",
        val: str | None = None,
        test: str | None = None,
        text: int | str = "text",
        label: int | str = "label",
        header: bool = True,
        delimiter: str | None = None,
        quotes: bool = True,
        level: Level = "word",
        lower: bool = True,
        min_freq: int = 2,
        max_size: int | None = None,
        unknown_labels: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(train=train, val=val, test=test, **common)
        self.columns = {"text": text, "label": label}
        self.dialect = Dialect(header, delimiter, quotes).checked()
        self.level: Level = level
        self.lower = lower
        self.min_freq = min_freq
        self.max_size = max_size
        self.unknown_labels = unknown_labels

    @cached_property
    def _loaded(self) -> tuple[dict[str, Field], dict[str, list[Example]]]:
        """The fields with their vocabularies, and the splits as ids."""
        field = token_field(lower=self.lower)
        splits = self.read_splits(lambda path: list(self._read(path, field)), stratum=lambda one: one.label)
        field.build_vocab((one.tokens for one in splits["train"]), min_freq=self.min_freq, max_size=self.max_size)
        others = ((one.where, one.label) for split in ("val", "test") for one in splits[split])
        labels = label_field((one.label for one in splits["train"]), others, self.unknown_labels)
        examples = {}
        for split, texts in splits.items():
            targets = encode(labels, [[one.label] for one in texts], split)
            rows = encode(field, [one.tokens for one in texts], split)
            examples[split] = [(ids[:, None], target[0]) for ids, target in zip(rows, targets, strict=True)]
        return {self.level: field, "label": labels}, examples

    def _read(self, path: Path, field: Field) -> Iterator[Labelled]:
        hint = "; if double quotes have no meaning in this file, use quotes=false" if self.dialect.quotes else ""
        table = Table(path, self.dialect, hint)
        text, label = (table.column(name, given) for name, given in self.columns.items())
        for line, row in table:
            tokens = field.preprocess(list(row[text]) if self.level == "char" else row[text].split())
            if not tokens or not row[label].strip():
                where = f"{path}, line {line}"
                raise ValueError(f"{where}: the {'label' if tokens else 'text'} is empty, one of each was expected")
            yield Labelled(tokens, row[label].strip(), f"{path}, line {line}")

    @property
    def vocabularies(self) -> dict[str, list[str]]:
        """Tokens and labels in the order of their ids."""
        return {name: field.vocab.itos for name, field in self._loaded[0].items()}

    @property
    def class_names(self) -> list[str]:
        """The labels in the order of their ids, the most frequent first."""
        return self.vocabularies["label"]

    def load(self) -> dict[str, list[Example]]:
        """Read the files and turn tokens and labels into ids."""
        return self._loaded[1]

    @cached_property
    def spec(self) -> Spec:
        """One column of tokens, one output per label."""
        sizes = (len(self.vocabularies[self.level]),)
        return Spec(self.task, vocabularies=sizes, num_outputs=len(self.class_names), max_length=self.max_length)
