"""Base class of data modules that read the user's own files, and the division of one file into splits."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from rnnnorm.common.ranges import Range, between
from rnnnorm.data.module import SequenceDataModule

T = TypeVar("T")
SHARE = between(0, 1, "[)", noun="a share")


class OwnFiles(SequenceDataModule):
    """A `SequenceDataModule` of files that the user names: one per split, or one that is divided.

    Args:
        train: the training file. Files are UTF-8, with or without a byte order mark, and may be gzipped.
        val: the validation file; None takes `val_share` of the training file.
        test: the test file; None takes `test_share` of the training file.
        val_share: share of the training file's sequences for validation, at least one; 0 validates on nothing, and the
            last weights are evaluated.
        test_share: share of the training file's sequences for testing, at least one.
        split_seed: of the draw that divides the training file. Classes keep their shares, and each has a training
            sequence. None does not draw: training sequences come first in the file, then validation, then test.
        data_dir: folder that relative paths start from; None is the current folder.
        **common: `batch_size`, `eval_batch_size`, `num_workers`, `seed`: see `SequenceDataModule`.

    Raises:
        ValueError: no training file, or shares that leave nothing to train on, or nothing to test.
        FileNotFoundError: on first use of the data, a file that does not exist.
    """

    reads: ClassVar[str] = "your files: --data.train"
    ranges: ClassVar[Mapping[str, Range]] = {"val_share": SHARE, "test_share": SHARE, "split_seed": Range(0)}

    def __init__(
        self,
        train: str = "",
        val: str | None = None,
        test: str | None = None,
        val_share: float = 0.1,
        test_share: float = 0.1,
        split_seed: int | None = 0,
        data_dir: str | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.paths = {"train": train, "val": val, "test": test}
        self.shares = {"val": val_share if val is None else 0.0, "test": test_share if test is None else 0.0}
        self.split_seed = split_seed
        self.data_dir = data_dir
        if not train:
            raise ValueError(f"{type(self).__name__} has no training file: name one by train (--data.train FILE)")
        if test is None and not test_share:
            raise ValueError("test_share is 0 and there is no test file: name one by test, or give it a share")
        if sum(self.shares.values()) >= 1:
            raise ValueError(f"val_share {val_share} and test_share {test_share} leave nothing to train on")

    def path(self, split: str) -> Path | None:
        """The file of a split; None if it is taken from the training file.

        Raises:
            FileNotFoundError: it does not exist.
        """
        given = self.paths[split]
        if given is None:
            return None
        path = Path(self.data_dir or "").expanduser() / Path(given).expanduser()
        if not path.is_file():
            found = "a folder, not a file:" if path.is_dir() else "no file"
            raise FileNotFoundError(f"{found} {path}: {split} must name a file, from {self.data_dir or Path.cwd()}")
        return path

    def read_splits(
        self, read: Callable[[Path], list[T]], stratum: Callable[[T], Hashable] | None = None
    ) -> dict[str, list[T]]:
        """The sequences of each split.

        Args:
            read: the sequences of one file.
            stratum: the class of a sequence, for splits in which classes keep their shares; None: there are none.

        Raises:
            ValueError: a file has no sequences, or too few to be divided; and what `read` raises.
        """
        files = {split: self.path(split) for split in self.paths}
        found = {split: [] if path is None else read(path) for split, path in files.items()}
        empty = [str(path) for split, path in files.items() if path is not None and not found[split]]
        if empty:
            raise ValueError(f"{empty[0]} has no sequences")
        every = found["train"]
        strata = None if stratum is None else [stratum(one) for one in every]
        try:
            parts = divide(len(every), self.shares["val"], self.shares["test"], self.split_seed, strata)
        except ValueError as error:
            raise ValueError(f"{files['train']}: {error}") from error
        for split, places in parts.items():
            if split == "train" or places:
                found[split] = [every[k] for k in places]
        return found


def divide(
    count: int, val: float, test: float, seed: int | None, strata: Sequence[Hashable] | None = None
) -> dict[str, list[int]]:
    """Places 0, …, count - 1 by split, in ascending order.

    A share above 0 is at least one place. Of the places sorted by stratum and, within it, at random, every n-th is held
    out, so that each stratum has its share up to one place. The first of each stratum stays in training.

    Args:
        count: how many places.
        val: share of the validation split.
        test: share of the test split.
        seed: of the order within a stratum; None cuts the places into three runs and leaves the strata out of it.
        strata: the stratum of each place; None: there is one.

    Raises:
        ValueError: too few places.
    """
    sizes = [max(1, round(count * share)) if share else 0 for share in (val, test)]
    held = sum(sizes)
    names = np.unique(np.array([str(one) for one in strata or [""] * count]), return_inverse=True)[1]
    kept = 1 if seed is None or strata is None else int(names.max(initial=-1)) + 1
    if held > count - kept:
        raise ValueError(
            f"{count} sequences are too few to draw {sizes[0]} for validation and {sizes[1]} for testing and to leave "
            f"{kept} for training, one per class: name files by val and test"
        )
    if seed is None:
        start = count - held
        chosen = np.arange(start, count), np.arange(start, start + sizes[0])
    else:
        order = np.random.default_rng(seed).permutation(count)
        order = order[np.argsort(names[order], kind="stable")]
        first = np.unique(names[order], return_index=True)[1] if strata is not None else [0]
        out = _every(np.delete(order, first) if held else order, held)
        chosen = out, _every(out, sizes[0])
    parts = {
        "train": np.setdiff1d(np.arange(count), chosen[0]),
        "val": chosen[1],
        "test": np.setdiff1d(chosen[0], chosen[1]),
    }
    return {split: sorted(places.tolist()) for split, places in parts.items()}


def _every(places: np.ndarray[Any, np.dtype[np.int64]], count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """`count` places at equal distances."""
    return places[(np.arange(count) * 2 + 1) * len(places) // (2 * count)] if count else places[:0]
