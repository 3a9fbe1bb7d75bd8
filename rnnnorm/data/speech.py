"""Spoken digits as sequences of cepstral coefficients."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io.wavfile
import torch
from numpy.typing import NDArray
from python_speech_features import mfcc

from rnnnorm.data.base import Spec
from rnnnorm.data.collate import Example
from rnnnorm.data.files import LIMIT, check, data_root, fetch, find
from rnnnorm.data.module import FileDataModule

COMMIT = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
URL = f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/{COMMIT}.tar.gz"
RECORDINGS_SHA256 = "a2e8a660492f28d9eed6270b290d26cbc5c81d6077ce87d3c0ad5adf4d4ee696"
NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>\w+)_(?P<index>\d+)\.wav")
SPLITS = {"test": range(5), "val": range(5, 10), "train": range(10, 50)}
MOST_RECORDINGS = 10_000  # an archive has 3,000

NUM_COEFFICIENTS = 13
WINDOW = 0.025  # seconds
HOP = 0.010  # seconds


def digest(recordings: Path) -> str:
    """One checksum for a folder of recordings: the sha256 of their names and their own sha256, in order of names."""
    total = hashlib.sha256()
    for path in sorted(recordings.glob("*.wav")):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def cepstrum(path: Path) -> NDArray[np.float32]:
    """Mel-frequency cepstral coefficients of a recording, (frames, 13).

    13 coefficients from 26 mel filters over Hamming windows of 25 ms, one every 10 ms; the first one is replaced by the
    logarithm of the frame's energy (python_speech_features).

    Raises:
        ValueError: the file is no mono wav file.
    """
    try:
        rate, signal = scipy.io.wavfile.read(path)
    except Exception as error:  # the reader fails by errors of several kinds
        raise ValueError(f"{path} cannot be read as a wav file: {error}") from error
    if signal.ndim != 1 or len(signal) == 0:
        raise ValueError(f"{path} has samples of shape {signal.shape}: one channel with at least one was expected")
    window, hop = round(WINDOW * rate), round(HOP * rate)
    # The library would fill a last, incomplete window with zeros: leave out the samples that are too few for one.
    signal = signal[: max(window, len(signal) - (len(signal) - window) % hop)]
    coefficients: NDArray[Any] = mfcc(
        signal,
        rate,
        winlen=WINDOW,
        winstep=HOP,
        numcep=NUM_COEFFICIENTS,
        nfft=1 << (window - 1).bit_length(),
        winfunc=np.hamming,
    )
    return coefficients.astype(np.float32)


class SpokenDigits(FileDataModule):
    """Spoken digits: the Free Spoken Digit Dataset: 6 speakers × 10 digits × 50 recordings at 8 kHz.

    A row is one frame of 10 ms, as 13 mel-frequency cepstral coefficients (`cepstrum`), standardized to mean 0 and
    variance 1 by the frames of the training split. Recordings number 0 to 4 of each speaker and digit are for testing,
    as the data set prescribes; of the official training recordings, 5 to 49, numbers 5 to 9 are for validation here:
    2,400 / 300 / 300 sequences.

    Args:
        standardize: False leaves the coefficients as they are.
        **common: `data_dir`, `download`, `batch_size`, `eval_batch_size`, `num_workers`, `seed`: see `FileDataModule`.

    Raises:
        FileNotFoundError: on first use of the data; see `rnnnorm.data.files.fetch`.
    """

    task = "classification"

    def __init__(self, standardize: bool = True, **common: Any) -> None:
        super().__init__(**common)
        self.standardize = standardize

    @property
    def spec(self) -> Spec:
        """13 coefficients, 10 digits."""
        return Spec(self.task, num_features=NUM_COEFFICIENTS, num_outputs=10, max_length=self.max_length)

    def load(self) -> dict[str, list[Example]]:
        """Read `recordings/{digit}_{speaker}_{index}.wav` and compute the coefficients."""
        splits: dict[str, list[tuple[NDArray[np.float32], int]]] = {"train": [], "val": [], "test": []}
        for path in sorted(self._recordings().glob("*.wav")):
            name = NAME.fullmatch(path.name)
            if name is None:
                raise ValueError(f"{path} is not named {{digit}}_{{speaker}}_{{index}}.wav")
            for split, indices in SPLITS.items():
                if int(name["index"]) in indices:
                    splits[split].append((cepstrum(path), int(name["digit"])))
        mean, std = np.float32(0), np.float32(1)
        if self.standardize and splits["train"]:
            frames = np.concatenate([rows for rows, _ in splits["train"]])
            mean, std = frames.mean(axis=0), frames.std(axis=0)
        return {
            split: [(torch.from_numpy((rows - mean) / std), torch.tensor(digit)) for rows, digit in examples]
            for split, examples in splits.items()
        }

    def _recordings(self) -> Path:
        root = data_root(self.data_dir)
        folder = find(root, "fsdd", ("recordings",))
        if folder is None:
            folder = root / "fsdd" / "recordings"
            fetch(folder, URL, self.download, _unpack)
        return folder


class _Decompressed(io.RawIOBase):
    """Decompressed bytes of a gzip file, up to a limit: the tar archive in it cannot be larger, whatever it says.

    Raises:
        ValueError: on reading more than `LIMIT` bytes.
    """

    def __init__(self, packed: gzip.GzipFile) -> None:
        self._packed, self._left = packed, LIMIT

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        found = self._packed.read(size if 0 <= size <= self._left else self._left + 1)
        self._left -= len(found)
        if self._left < 0:
            raise ValueError(f"more than {LIMIT:,} bytes when it is decompressed")
        return found


def _unpack(archive: Path, folder: Path) -> None:
    """Take the recordings out of an archive of the repository, by their names alone: no links, and into this folder.

    GitHub packs the archive anew at its pleasure, so its own checksum says nothing: that of the recordings does.
    """
    folder.mkdir()
    taken = 0
    try:
        with gzip.open(archive) as packed, tarfile.open(fileobj=_Decompressed(packed), mode="r|") as members:
            for member in members:
                path = Path(member.name)
                if path.parent.name != "recordings" or not NAME.fullmatch(path.name) or not member.isfile():
                    continue
                taken += 1
                if taken > MOST_RECORDINGS:
                    raise ValueError(f"more than {MOST_RECORDINGS:,} recordings")
                content = members.extractfile(member)
                assert content is not None  # a regular file
                (folder / path.name).write_bytes(content.read())
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise ValueError(f"{URL} is broken: {error}") from error
    check(digest(folder), RECORDINGS_SHA256, URL)
