"""Language modelling: predict the next word or character of WikiText-2, Tiny Shakespeare or a text of one's own."""

from __future__ import annotations

from typing import Any, Literal

from rnnnorm.data import corpus
from rnnnorm.data.corpora import CORPORA, FOLDER, read_folder
from rnnnorm.data.module import FileDataModule
from rnnnorm.data.running_text import RunningText


class LanguageModel(RunningText, FileDataModule):
    """The next token of running text, sentence by sentence or as one stream.

    See `rnnnorm.data.running_text.RunningText`. WikiText-2 has 33,278 words, Tiny Shakespeare 65 characters and
    ``<unk>``. A sequence is a line, in Tiny Shakespeare a speech.

    Args:
        dataset: "wikitext2" (Merity et al. 2016), "tinyshakespeare" (Karpathy 2015; the first 90 % of its characters
            are for training, the next 5 % for validation, the last 5 % for testing) or "folder", a text of one's own.
        level: "word" (between white space) or "char"; None is "char" for Tiny Shakespeare and "word" for the others.
        folder: for dataset "folder", where the text lies, relative to `data_dir` if it is not absolute: "train.txt",
            "valid.txt" and "test.txt", or named like "ptb.train.txt" or "wiki.train.tokens"; ".gz" is read too.
        **common: `mode`, `max_length`, `segment_length`, `test_lengths`, `bptt`, `min_freq`: see `RunningText`;
            `data_dir`, `download`, `batch_size`, `eval_batch_size`, `num_workers`, `seed`: see `FileDataModule` and
            `SequenceDataModule`.

    Raises:
        ValueError: an unknown dataset, level or mode, or a length or frequency below 1.
    """

    def __init__(
        self,
        dataset: Literal["wikitext2", "tinyshakespeare", "folder"] = "wikitext2",
        level: corpus.Level | None = None,
        folder: str = "",
        **common: Any,
    ) -> None:
        known = CORPORA.get(dataset)
        level = level or (known.level if known else "word")
        super().__init__(level=level, **common)
        self.dataset = dataset
        self.folder = folder
        self.separator = known.separator if known else "\n"

    @property
    def source(self) -> str:
        """The name of the data set."""
        return self.dataset

    def read(self, longest: int | None) -> dict[str, str]:
        """The raw text of each split."""
        if self.dataset == FOLDER:
            return read_folder(self.folder, self.data_dir, longest)
        return CORPORA[self.dataset].read(self.data_dir, self.download, longest)
