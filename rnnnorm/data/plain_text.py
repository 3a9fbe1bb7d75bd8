"""The user's own text, for language modelling."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rnnnorm.data.files import read_text
from rnnnorm.data.own_files import OwnFiles
from rnnnorm.data.running_text import RunningText


class PlainText(RunningText, OwnFiles):
    """Your own text, the next word or character: a plain text file, one sentence a line or running.

    See `rnnnorm.data.running_text.RunningText`. A single file is divided by lines in mode "sentences", drawn by
    `split_seed` unless it is None, and in the other modes into three runs, each up to a white space.

    Args:
        train: the training file.
        val: the validation file; None takes `val_share` of the training file.
        test: the test file; None takes `test_share` of the training file.
        **common: `level`, `mode`, `max_length`, `segment_length`, `test_lengths`, `bptt`, `min_freq`: see
            `RunningText`; `val_share`, `test_share`, `split_seed`, `data_dir`, `batch_size`, `eval_batch_size`,
            `num_workers`, `seed`: see `OwnFiles` and `SequenceDataModule`.

    Raises:
        ValueError: an unknown level or mode, or a length or frequency below 1; when data are read, a file that is blank
            or not UTF-8.
    """

    def __init__(self, train: str = "", val: str | None = None, test: str | None = None, **common: Any) -> None:
        super().__init__(train=train, val=val, test=test, **common)

    @property
    def source(self) -> str:
        """The training file."""
        return str(self.paths["train"])

    def read(self, longest: int | None) -> dict[str, str]:
        """The raw text of each split."""

        def lines(path: Path) -> list[str]:
            return [line for line in _text(path, longest).split("\n") if line.strip()]

        if self.mode == "sentences":
            return {split: "".join(f"{line}\n" for line in found) for split, found in self.read_splits(lines).items()}
        paths = {split: self.path(split) for split in ("train", "val", "test")}
        texts = {split: "" if path is None else _text(path, longest) for split, path in paths.items()}
        whole, ends = texts["train"], [len(texts["train"])]
        for share in (self.shares["test"], self.shares["val"]):
            place = ends[-1] - round(share * len(whole))
            found = re.compile(r"\s").search(whole, place, ends[-1])
            ends.append(found.end() if found and share else place)
        texts["train"] = whole[: ends[2]]
        for split, start, end in (("val", ends[2], ends[1]), ("test", ends[1], ends[0])):
            texts[split] = texts[split] or whole[start:end]
        return texts


def _text(path: Path, longest: int | None) -> str:
    return read_text(path, longest).replace("\r\n", "\n")
