"""The user's own tagged sentences: column files in the manner of CoNLL, one word a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rnnnorm.data.files import LONGEST_LINE, read_text
from rnnnorm.data.own_files import OwnFiles
from rnnnorm.data.tagging import Tagged, WordTagging

DOCUMENT = "-DOCSTART-"
"""What a line begins with that stands for the beginning of a document in CoNLL-2003: it is left out."""


class TaggedText(WordTagging, OwnFiles):
    """Your own sentences, one tag a word, such as slots (BIO) or named entities: column files in the manner of CoNLL.

    A line is a word with its columns, a blank line ends a sentence. Columns are separated by tabs if the first word's
    line contains one, by white space otherwise. A tag is a class of its own, B- and I- included: what is scored is the
    share of words with the right tag. `PartOfSpeech` is for CoNLL-U files, whose multiword tokens it leaves out.

    Args:
        train: the training file.
        val: the validation file; None takes `val_share` of the training file.
        test: the test file; None takes `test_share` of the training file.
        token: the column of words, from 0, from the end if negative.
        tag: the column of tags, likewise.
        comments: whether lines before the first word of a sentence that begin with "#" are left out; otherwise they are
            words like others.
        unknown_labels: whether validation and test may have tags that training has not. These become one class
            ``<unk>``, which no model gets right; otherwise they are an error.
        **common: `features`, `lower`, `min_freq`, `max_train_length`: see `WordTagging`; `val_share`, `test_share`,
            `split_seed`, `data_dir`, `batch_size`, `eval_batch_size`, `num_workers`, `seed`: see `OwnFiles` and
            `SequenceDataModule`.

    Raises:
        ValueError: when data are read, a line with more or fewer columns than the first, a column that does not exist,
            a tag that training has not; it names the file and the line.
    """

    def __init__(
        self,
        train: str = "",
        val: str | None = None,
        test: str | None = None,
        token: int = 0,
        tag: int = -1,
        comments: bool = True,
        unknown_labels: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(train=train, val=val, test=test, **common)
        self.columns = {"token": token, "tag": tag}
        self.comments = comments
        self.unknown_labels = unknown_labels

    @property
    def source(self) -> str:
        """The training file."""
        return str(self.paths["train"])

    def read(self) -> dict[str, list[Tagged]]:
        """The sentences of each split."""
        return self.read_splits(lambda path: list(self._read(path)))

    def _read(self, path: Path) -> Iterator[Tagged]:
        sentence, tabs, count = Tagged([], []), False, 0
        for number, line in enumerate([*read_text(path, LONGEST_LINE).split("\n"), ""], start=1):
            if not line.strip():
                if sentence.words:
                    yield sentence
                sentence = Tagged([], [])
                continue
            if not sentence.words and (line.startswith(DOCUMENT) or (self.comments and line.startswith("#"))):
                continue
            tabs = tabs if count else "\t" in line
            columns = line.rstrip("\r").split("\t") if tabs else line.split()
            count = count or self._count(columns, f"{path}, line {number}")
            if len(columns) != count:
                kind = "tab" if tabs else "space"
                problem = f"{len(columns)} {kind}-separated columns, where the first word has {count}: {line[:60]!r}"
                raise ValueError(f"{path}, line {number}: {problem}")
            word, tag = (columns[place].strip() for place in self.columns.values())
            if not word or not tag:
                raise ValueError(f"{path}, line {number}: the {'tag' if word else 'token'} is empty: {line[:60]!r}")
            if not sentence.words:
                sentence = Tagged([], [], str(path), number)
            sentence.words.append(word)
            sentence.tags.append(tag)

    def _count(self, columns: list[str], where: str) -> int:
        """The number of columns of the first word, in which both columns must be, and not be the same."""
        count = len(columns)
        for name, place in self.columns.items():
            if not -count <= place < count:
                raise ValueError(f"{where}: no {name} column {place}: the line has {count}: {' '.join(columns)[:60]!r}")
        if len({place % count for place in self.columns.values()}) == 1:
            raise ValueError(f"{where}: token and tag are the same column, the only one: {' '.join(columns)[:60]!r}")
        return count
