"""Handwritten digits read one pixel, or one row of pixels, at a time: sequential and permuted MNIST."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from rnnnorm.common.ranges import Range, at_least, one_of
from rnnnorm.data.base import Spec
from rnnnorm.data.collate import Example
from rnnnorm.data.files import Remote, github, locate, read
from rnnnorm.data.module import FileDataModule

SIDE = 28
PIXELS = SIDE * SIDE
IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

Permutation = Literal["none", "true", "published"]
Step = Literal["pixel", "row"]


def _equinox(name: str, sha256: str, size: int) -> Remote:
    commit, folder = "9336d820b2ef66b360fc6cb3611b3da5cefbb14d", "docs/examples/MNIST/MNIST/raw"
    return Remote(name, github("patrick-kidger/equinox", commit, f"{folder}/{name}.gz"), sha256, size=size)


FILES = (
    Remote(
        "train-images-idx3-ubyte",
        "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        size=16 + 60_000 * PIXELS,
    ),
    _equinox("train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 8 + 60_000),
    _equinox(
        "t10k-images-idx3-ubyte",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        16 + 10_000 * PIXELS,
    ),
    _equinox("t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 8 + 10_000),
)


def read_idx(path: Path) -> NDArray[Any]:
    """Read an array in the IDX format of LeCun's MNIST page, gzipped or not.

    Layout, all numbers big-endian: two zero bytes, one byte for the type, one for the number of dimensions, a 32-bit
    size per dimension, the values.

    Raises:
        ValueError: the file begins with something else, or has another number of values than its sizes say.
    """
    data = read(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX_TYPES:
        raise ValueError(
            f"{path} is no IDX file: it begins with {data[:4].hex(' ') or 'nothing'}, "
            "00 00, a type from 08 to 0e and the number of dimensions were expected"
        )
    header = 4 + 4 * data[3]
    if len(data) < header:
        raise ValueError(f"{path} has {len(data)} bytes, which is not even the {header} of its header")
    shape = [int(size) for size in np.frombuffer(data[4:header], ">u4")]
    kind = np.dtype(IDX_TYPES[data[2]])
    if len(data) - header != math.prod(shape) * kind.itemsize:
        raise ValueError(f"{path} has {len(data)} bytes, which is not {header} and {kind.itemsize} for each of {shape}")
    return np.frombuffer(data, kind, offset=header).reshape(shape)


def _read_pair(images: Path, labels: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images (N, 28, 28) and their labels (N,)."""
    pictures, digits = read_idx(images), read_idx(labels)
    for path, array, shape in ((images, pictures, (SIDE, SIDE)), (labels, digits, ())):
        if array.shape != (expected := (len(pictures) if pictures.ndim else 0, *shape)):
            raise ValueError(f"{path} has values of shape {array.shape}: {expected} was expected")
    return pictures, digits


class SequentialMNIST(FileDataModule):
    """Classification of digits from their pixels in sequence (Le, Jaitly & Hinton 2015; Cooijmans et al. 2017).

    28 × 28 grey levels, scaled to [0, 1], are read row by row from the top left: 784 steps of one pixel or 28 steps of
    one row. All sequences have the same length. Of the 60,000 training images the last 10,000 are for validation, as in
    Cooijmans et al.; there are 10,000 test images.

    `permuted` shuffles the pixels of all images in the same way, so that what belongs together is far apart:

    - "none": sequential MNIST;
    - "true": a permutation drawn with `seed`, which is what the papers describe;
    - "published": the index of the code behind the numbers of Cooijmans et al., `RandomState(1).randint(0, 784, 784)`.
      It draws *with replacement*: only 501 of the 784 pixels are ever seen, some of them several times. To be compared
      with their 90.2 % (LSTM) and 95.4 % (BN-LSTM); not comparable with results on a true permutation.

    Args:
        permuted: see above. The order is that of pixels, before they are put into rows.
        step: "pixel" or "row": what is read at one step.
        downsample: average squares of this many pixels a side: 784 steps become 784 / downsample². Divides 28.
        num_val: images at the end of the training set that are kept for validation.
        num_train: use only the first so many training images; None for all.
        num_test: use only the first so many test images; None for all.
        **common: `data_dir`, `download`, `batch_size`, `eval_batch_size`, `num_workers`, `seed`: see `FileDataModule`.

    Raises:
        ValueError: a value that does not exist, `downsample` does not divide 28, or the published index is asked for
            together with down-sampling.
        FileNotFoundError: on first use of the data; see `rnnnorm.data.files.locate`.
    """

    task = "classification"
    ranges: ClassVar[Mapping[str, Range]] = {
        "downsample": one_of(*(n for n in range(1, SIDE + 1) if SIDE % n == 0), why=f"the divisors of {SIDE}"),
        **dict.fromkeys(("num_val", "num_train", "num_test"), at_least(1)),
    }

    def __init__(
        self,
        permuted: Permutation = "none",
        step: Step = "pixel",
        downsample: int = 1,
        num_val: int = 10_000,
        num_train: int | None = None,
        num_test: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if permuted == "published" and downsample != 1:
            raise ValueError(f"the published index is one of {PIXELS} pixels: downsample must be 1, not {downsample}")
        self.permuted = permuted
        self.step = step
        self.downsample = downsample
        self.num_val = num_val
        self.num_train = num_train
        self.num_test = num_test

    @property
    def spec(self) -> Spec:
        """Rows of one pixel or of one row of pixels, ten classes. Known without the files."""
        side = SIDE // self.downsample
        features, steps = (1, side * side) if self.step == "pixel" else (side, side)
        return Spec(self.task, num_features=features, num_outputs=10, max_length=steps)

    @property
    def order(self) -> NDArray[np.int64]:
        """Order of the pixels: an index into the (down-sampled) image, row by row."""
        pixels = (SIDE // self.downsample) ** 2
        if self.permuted == "published":
            return np.random.RandomState(1).randint(0, PIXELS, PIXELS)
        if self.permuted == "true":
            return np.random.default_rng(self.seed).permutation(pixels)
        return np.arange(pixels)

    def load(self) -> dict[str, list[Example]]:
        """Read the four IDX files."""
        paths = locate(FILES, "mnist", self.data_dir, self.download)
        train_images, train_labels = _read_pair(*paths[:2])
        test_images, test_labels = _read_pair(*paths[2:])
        kept = len(train_images) - self.num_val
        if kept < (self.num_train or 1):
            raise ValueError(
                f"{len(train_images)} training images are not enough for num_val={self.num_val} "
                f"and num_train={self.num_train}"
            )
        return {
            "train": self._sequences(train_images[:kept][: self.num_train], train_labels[:kept]),
            "val": self._sequences(train_images[kept:], train_labels[kept:]),
            "test": self._sequences(test_images[: self.num_test], test_labels),
        }

    def _sequences(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> list[Example]:
        grey = torch.from_numpy(images.astype(np.float32)).div_(255)
        if self.downsample > 1:
            grey = torch.nn.functional.avg_pool2d(grey.unsqueeze(1), self.downsample).squeeze(1)
        rows = grey.flatten(1)
        if self.permuted != "none":
            rows = rows[:, torch.from_numpy(self.order)]
        rows = rows.reshape(len(rows), -1, self.spec.num_features)
        targets = torch.from_numpy(labels[: len(images)].astype(np.int64))
        return list(zip(rows.unbind(), targets.unbind(), strict=True))
