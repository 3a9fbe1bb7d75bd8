"""Language modelling: predict the next word or character of WikiText-2, Tiny Shakespeare or a text of one's own."""

from __future__ import annotations

from typing import Any, Literal

from rnnnorm.data import corpus
from rnnnorm.data.corpora import CORPORA, FOLDER, read_folder
from rnnnorm.data.module import FileDataModule
from rnnnorm.data.running_text import Mode, RunningText


class LanguageModel(RunningText, FileDataModule):
    """The next token of running text, sentence by sentence or as one stream.

    The vocabulary is that of the training split, ``<unk>`` first and the others by frequency. At word level it has
    ``<eos>``, the end of a line: 33,278 words for WikiText-2. At character level a line ends with its line feed:
    ``<unk>`` and 65 characters for Tiny Shakespeare. It is the same in both modes.

    ``mode="sentences"``: independent ragged sequences. A sequence is a line that is not blank, in Tiny Shakespeare a
    speech. The token that ends a line is also put before its first one, in place of a <bos>: input <eos> w_1 … w_n,
    target w_1 … w_n <eos>, n + 1 steps; every token of the line is predicted, and so is its end. Sequences longer than
    `max_length` steps are cut into pieces, each of which begins with the token before its first target, so the tokens
    predicted stay the same and only what is known before them changes.

    ``mode="stream"``: the text as `batch_size` parallel streams, `bptt` steps at a time, in the order of the text;
    every batch but the first of an epoch `continues` the one before. See `rnnnorm.data.stream.Stream`.
    Blank lines are one ``<eos>`` each, as in published results on WikiText-2. The splits then are one example each.

    Args:
        dataset: "wikitext2" (Merity et al. 2016), "tinyshakespeare" (Karpathy 2015; the first 90 % of its characters
            are for training, the next 5 % for validation, the last 5 % for testing) or "folder", a text of one's own.
        level: "word" (between white space) or "char"; None is "char" for Tiny Shakespeare and "word" for the others.
        mode: "sentences" or "stream".
        max_length: steps after which a sequence is cut, in every split; None never cuts. For mode "sentences". A few
            lines of WikiText-2 reach 700 steps and a few speeches 3,000, where a batch is one long tail.
        bptt: steps per batch, for mode "stream".
        min_freq: words seen fewer times in the training split become ``<unk>``. Published corpora have theirs in the
            text already; raise it for raw text, or ``<unk>`` is met for the first time in validation.
        folder: for dataset "folder", where the text lies, relative to `data_dir` if it is not absolute: "train.txt",
            "valid.txt" and "test.txt", or named like "ptb.train.txt" or "wiki.train.tokens"; ".gz" is read too.
        **common: `data_dir`, `download`, `batch_size`, `eval_batch_size`, `num_workers`, `seed`: see `FileDataModule`
            and `SequenceDataModule`. In mode "stream" `batch_size` counts parallel streams (per process), and nothing
            depends on `seed`.

    Raises:
        ValueError: an unknown dataset, level or mode, or a length or frequency below 1.
    """

    def __init__(
        self,
        dataset: Literal["wikitext2", "tinyshakespeare", "folder"] = "wikitext2",
        level: corpus.Level | None = None,
        mode: Mode = "sentences",
        max_length: int | None = 512,
        bptt: int = 35,
        min_freq: int = 1,
        folder: str = "",
        **common: Any,
    ) -> None:
        known = CORPORA.get(dataset)
        level = level or (known.level if known else "word")
        super().__init__(level=level, mode=mode, max_length=max_length, bptt=bptt, min_freq=min_freq, **common)
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
