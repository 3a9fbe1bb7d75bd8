"""Text classification: words of sentences by their part of speech, names by their language."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torchtext.data import Field

from rnnnorm.data.base import Spec, Task
from rnnnorm.data.collate import Example
from rnnnorm.data.conllu import EMPTY, read_conllu
from rnnnorm.data.files import LONGEST_LINE, Remote, github, locate, read_text
from rnnnorm.data.module import FileDataModule
from rnnnorm.data.tagging import Tagged, WordTagging
from rnnnorm.data.tokens import TokenDataModule
from rnnnorm.data.treebanks import EWT, find_treebank
from rnnnorm.data.vocabulary import encode, token_field

TAGS = ("upos", "xpos")
_LANGUAGES = {  # file → sha256
    "Arabic": "6f424a8dbe51cbbbabab7a57d38b617210125e4e3991f3c657cb79b8f104bafc",
    "Chinese": "09ba8f1f7e38dbc99372d461b26ad4433b811fc6bfa6a3ecca6fe11a9a777465",
    "Czech": "e17ab0ec47616a72c39cb85c783f70c3663ab64488721e5d8378f146d2226be7",
    "Dutch": "924f32b635170eae561f84538632138fc07d4c8bbd70ba3fb980de1ecc4d2af3",
    "English": "9cca037066d3d5989e24bc01801416162de506b5e28e15b7c092a47905d29bf2",
    "French": "81e65b36c60ed5b89a17422f6edcadbb89546f38ad69e960e64e7ba682012a95",
    "German": "7449cd590b97a733e18d613a4155decd77ec35dc5f8aadd7a82204dce4f051db",
    "Greek": "3555b5186de7f401e6d991b088e9e644ca3099116477818c25ab5793801389e6",
    "Irish": "cf8c7013256252a88d2503127b87282a11f21b2ff6db1bded68834c19a1ec058",
    "Italian": "f88414c27d0606a11a678b4859277828c2565d6cc4d9ee932deef6e94f3b35e4",
    "Japanese": "e0e717e114fec3e7eade4d9dabe0067c475f43147e36a22b47902ee76ad9e67f",
    "Korean": "cd54221ccb362a6cba4c78828838cf3268a0e59744767a37cf6ec4b74036b136",
    "Polish": "45bab898af2f60ed3a728bbf6980e28821011a7caa53227553b5785903a40826",
    "Portuguese": "50a8735f41f4f73757c8ce5b16cb0275cd86b2b214bcbc8c9805f508cb131c53",
    "Russian": "0cfe53ac18041e8f63666aa77313e0a3ff378facb132abee052d8ebdc8c3d62c",
    "Scottish": "78d0252711d87d948ea86fe34826c51d2d794a8e52d15b5d6f7b6244d45d62dd",
    "Spanish": "1bcb462ed3316756a85781d68232bddae04498fdddd5d9219c53fd1fbdeba7a7",
    "Vietnamese": "f3f9e4164ab47601178a6e45b216464a64122f49d05541f24bf18a757253281d",
}


class PartOfSpeech(WordTagging, FileDataModule):
    """Part-of-speech tagging of a Universal Dependencies treebank, by default English EWT (Silveira et al. 2014).

    The splits are the official ones. A row is a word, given by one token id per feature: one word in twelve of the
    validation text does not occur in the training text, and of those the affixes and the shape tell most of what a
    spelling says about a tag. See `rnnnorm.data.tagging.WordTagging`.

    Args:
        treebank: where the files lie and what they are called before "-train.conllu", "-dev.conllu" and
            "-test.conllu" (".gz" is read too): "en_ewt-ud", or a path such as "UD_German-GSD/de_gsd-ud", relative to
            `data_dir` if it is not absolute. Only English EWT is downloaded.
        tags: "upos", the 17 universal tags, or "xpos", the treebank's own.
        **common: `features`, `lower`, `min_freq`, `max_train_length`: see `WordTagging`; `data_dir`, `download`,
            `batch_size`, `eval_batch_size`, `num_workers`, `seed`: see `FileDataModule` and `SequenceDataModule`.

    Raises:
        ValueError: unknown tags or features, a frequency or length below 1; when data are read, a malformed file, one
            without sentences, or a treebank without those tags.
    """

    def __init__(self, treebank: str = EWT, tags: Literal["upos", "xpos"] = "upos", **common: Any) -> None:
        super().__init__(**common)
        self.treebank = treebank
        self.tags: Literal["upos", "xpos"] = tags

    @property
    def source(self) -> str:
        """The treebank's name."""
        return self.treebank

    def read(self) -> dict[str, list[Tagged]]:
        """The sentences of each split."""
        sentences = {
            split: [
                Tagged(s.words, getattr(s, self.tags), path.name)
                for s in read_conllu(read_text(path, LONGEST_LINE).split("\n"), path.name)
            ]
            for split, path in find_treebank(self.treebank, self.data_dir, self.download).items()
        }
        empty = [split for split, every in sentences.items() if not every]
        if empty:
            raise ValueError(f"the {empty[0]} split of {self.treebank} is empty")
        if {tag for s in sentences["train"] for tag in s.tags} == {EMPTY}:
            raise ValueError(
                f"{self.treebank} has no {self.tags} tags: {', '.join(TAGS)} are the columns to choose from"
            )
        return sentences


class Names(TokenDataModule, FileDataModule):
    """Names by language: characters in, one of 18 classes out (Robertson 2017, PyTorch's tutorial).

    Names are as published, accents and the odd trailing space included; the tutorial's own reduction to ASCII is not
    applied. There is no official split. Here the names, in the order of files and lines, are permuted by
    ``numpy.random.RandomState(0)``, whatever `seed` is: the first 80 % are for training, the others for testing, and
    the last tenth of the training part is set aside for validation. 47 % of the names are Russian. One test name in six
    also occurs in the training part, and a quarter of those under other languages only: no model gets them all right.

    Args:
        **common: `data_dir`, `download`, `batch_size`, `eval_batch_size`, `num_workers`, `seed`: see `FileDataModule`
            and `SequenceDataModule`.
    """

    task: ClassVar[Task] = "classification"
    class_names: ClassVar[list[str]] = sorted(_LANGUAGES)

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)

    @cached_property
    def _names(self) -> dict[str, list[tuple[str, int]]]:
        """(name, class) pairs by split."""
        commit = "c520c52e68e945d88fff563dba1c028b6ec0197b"
        files = [
            Remote(f"{name}.txt", github("spro/practical-pytorch", commit, f"data/names/{name}.txt"), _LANGUAGES[name])
            for name in self.class_names
        ]
        names = [
            (line, label)
            for label, path in enumerate(locate(files, "names", self.data_dir, self.download))
            for line in read_text(path, LONGEST_LINE).replace("\r\n", "\n").split("\n")
            if line.strip()
        ]
        order = np.random.RandomState(0).permutation(len(names))
        test = len(names) * 4 // 5
        val = test * 9 // 10
        parts = {"train": order[:val], "val": order[val:test], "test": order[test:]}
        return {split: [names[i] for i in part] for split, part in parts.items()}

    @cached_property
    def field(self) -> Field:
        """The torchtext field of the characters, with its vocabulary."""
        field = token_field()
        field.build_vocab(list(name) for name, _ in self._names["train"])
        return field

    @property
    def vocabularies(self) -> dict[str, list[str]]:
        """The characters in the order of their ids."""
        return {"char": self.field.vocab.itos}

    def load(self) -> dict[str, list[Example]]:
        """Read the names and turn characters into ids."""
        return {
            split: [
                (ids[:, None], torch.tensor(label))
                for ids, (_, label) in zip(encode(self.field, [n for n, _ in pairs], split), pairs, strict=True)
            ]
            for split, pairs in self._names.items()
        }

    @cached_property
    def spec(self) -> Spec:
        """One column of characters, one output per language."""
        sizes = (len(self.field.vocab),)
        return Spec(self.task, vocabularies=sizes, num_outputs=len(self.class_names), max_length=self.max_length)
