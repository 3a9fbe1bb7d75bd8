"""Japanese vowels: identification of the speaker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rnnnorm.data.base import Spec
from rnnnorm.data.collate import Example
from rnnnorm.data.files import Remote, github, locate
from rnnnorm.data.module import FileDataModule
from rnnnorm.data.ts import read_ts

NUM_COEFFICIENTS = 12
SPEAKERS = tuple(str(speaker) for speaker in range(1, 10))
HELD_OUT = 6  # every sixth utterance of a speaker


def _aeon(name: str, sha256: str) -> Remote:
    commit = "a101ddc8b35a65441609b45c9bcce5aeafa0c131"
    return Remote(name, github("aeon-toolkit/aeon", commit, f"aeon/datasets/data/JapaneseVowels/{name}"), sha256)


FILES = (
    _aeon("JapaneseVowels_TRAIN.ts", "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd"),
    _aeon("JapaneseVowels_TEST.ts", "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462"),
)


class JapaneseVowels(FileDataModule):
    """Nine speakers, told apart by how they say "ae" (Kudo, Toyama & Shimbo 1999).

    A row is one frame, as 12 linear-prediction cepstrum coefficients, left as they are; utterances have 7 to 29 frames.
    The official sets are 270 training utterances (30 per speaker) and 370 test utterances. Every sixth training
    utterance of a speaker, 45 in all, is for validation here: 225 / 45 / 370 sequences.

    Args:
        **common: `data_dir`, `download`, `batch_size`, `eval_batch_size`, `num_workers`, `seed`: see `FileDataModule`.

    Raises:
        FileNotFoundError: on first use of the data; see `rnnnorm.data.files.locate`.
    """

    task = "classification"

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)

    @property
    def spec(self) -> Spec:
        """12 coefficients, 9 speakers."""
        return Spec(self.task, num_features=NUM_COEFFICIENTS, num_outputs=len(SPEAKERS), max_length=self.max_length)

    def load(self) -> dict[str, list[Example]]:
        """Read the two files."""
        official, test = (
            self._examples(path) for path in locate(FILES, "japanese_vowels", self.data_dir, self.download)
        )
        heard = dict.fromkeys(range(len(SPEAKERS)), 0)
        train: list[Example] = []
        val: list[Example] = []
        for rows, speaker in official:
            heard[int(speaker)] += 1
            (val if heard[int(speaker)] % HELD_OUT == 0 else train).append((rows, speaker))
        return {"train": train, "val": val, "test": test}

    def _examples(self, path: Path) -> list[Example]:
        examples = []
        for number, (values, label, _) in enumerate(read_ts(path).series):
            if label not in SPEAKERS or values.shape[1] != NUM_COEFFICIENTS:
                raise ValueError(
                    f"{path}: utterance {number} is of speaker {label!r} and has {values.shape[1]} coefficients; "
                    f"speakers {SPEAKERS[0]} to {SPEAKERS[-1]} and {NUM_COEFFICIENTS} coefficients were expected"
                )
            examples.append((torch.from_numpy(values.copy()), torch.tensor(SPEAKERS.index(label))))
        return examples
