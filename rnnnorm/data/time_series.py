"""The user's own time series, for classification and for regression: `.ts` files, or tables with a row per step."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnnnorm.data.base import Spec, Task
from rnnnorm.data.collate import Example
from rnnnorm.data.own_files import OwnFiles
from rnnnorm.data.series_table import Columns, read_series_table
from rnnnorm.data.table import Dialect, is_table
from rnnnorm.data.tokens import TokenDataModule
from rnnnorm.data.ts import Kind, Series, read_ts
from rnnnorm.data.vocabulary import expected_one_of

KINDS = {"class": "TimeSeries", "target": "TimeSeriesRegression"}
Array = NDArray[np.float32]


class _Read(NamedTuple):
    """A series, its file, and the classes that the header of the file lists."""

    one: Series
    path: Path
    classes: tuple[str, ...]


class _SeriesFiles(OwnFiles):
    """What classification and regression share."""

    kind: ClassVar[Kind]
    labelled: ClassVar[str]

    def __init__(
        self,
        train: str = "",
        val: str | None = None,
        test: str | None = None,
        missing: Literal["error", "zero", "last"] = "error",
        standardize: bool = False,
        series: int | str = "series",
        label: int | str | None = None,
        order: int | str | None = None,
        channels: str | list[int | str] | None = None,
        delimiter: str | None = None,
        **common: Any,
    ) -> None:
        super().__init__(train=train, val=val, test=test, **common)
        if isinstance(channels, str):
            channels = [name.strip() for name in channels.split(",")]
        self.columns = Columns(series, self.labelled if label is None else label, order, channels)
        self.dialect = Dialect(delimiter=delimiter).checked()
        self._channels: tuple[str, ...] = ()
        self.missing: Literal["error", "zero", "last"] = missing
        self.standardize = standardize

    @cached_property
    def _series(self) -> dict[str, list[_Read]]:
        """The series of each split."""
        splits = self.read_splits(self._read, stratum=(lambda read: read.one.label) if self.kind == "class" else None)
        channels = splits["train"][0].one.values.shape[1]
        for read in (read for split in splits.values() for read in split):
            if read.one.values.shape[1] != channels:
                raise ValueError(
                    f"{read.path}, line {read.one.line}: {read.one.values.shape[1]} channels, where the training "
                    f"series have {channels}"
                )
        return splits

    def _read(self, path: Path) -> list[_Read]:
        missing = self.missing != "error"
        if is_table(path):
            found = read_series_table(path, self.columns, self.kind, self.dialect, missing)
            self._channels = self._channels or found.channels
            if self.columns.channels is None and found.channels != self._channels:
                raise ValueError(
                    f"{path}, line 1: the columns of values are {', '.join(found.channels)}, but those of the training "
                    f"file {', '.join(self._channels)}: name them by channels"
                )
        else:
            found = read_ts(path, missing)
        if found.kind != self.kind:
            use = f"use {KINDS[found.kind]}, not {KINDS[self.kind]}"
            raise ValueError(f"{path} has a {found.kind} for each series: {use}")
        return [_Read(one, path, found.classes) for one in found.series]

    def load(self) -> dict[str, list[Example]]:
        """Read the files, standardize, and fill in missing values."""
        every = np.concatenate([read.one.values for read in self._series["train"]])
        mean, scale = np.zeros(every.shape[1], np.float32), np.ones(every.shape[1], np.float32)
        if self.standardize:
            observed = np.ma.masked_invalid(every.astype(np.float64))
            mean, scale = observed.mean(0).filled(0.0), observed.std(0).filled(1.0)
            scale[scale == 0] = 1.0
        splits: dict[str, list[Example]] = {}
        for split, series in self._series.items():
            values = [((read.one.values - mean) / scale).astype(np.float32) for read in series]
            rows = [torch.from_numpy(self._filled(one)) for one in values]
            splits[split] = [(one, self._target(read)) for one, read in zip(rows, series, strict=True)]
        _ = self.__dict__.pop("_series")  # they have served
        return splits

    def _filled(self, values: Array) -> Array:
        gaps = np.isnan(values)
        if gaps.any() and self.missing == "last":
            observed = np.where(gaps, 0, np.arange(len(values))[:, None])
            values = np.take_along_axis(values, np.maximum.accumulate(observed, axis=0), axis=0)
        return np.nan_to_num(values, nan=0.0) if gaps.any() else values

    def _target(self, read: _Read) -> Tensor:
        raise NotImplementedError


class TimeSeries(_SeriesFiles, TokenDataModule):
    """Your own time series by their class: tables with a row per step, or `.ts` files as in the UEA and UCR archives.

    Series may have several channels, different lengths and missing values. A file called `.csv`, `.tsv` or `.tab`,
    gzipped or not, is a table with a header, see `rnnnorm.data.series_table.read_series_table`; any other is a `.ts`
    file, see `rnnnorm.data.ts.read_ts`, whose timestamps are not read. The classes are those that the header of a
    `.ts` training file lists, in its order, or else those of the training series, sorted.

    Args:
        train: the training file.
        val: the validation file; None takes `val_share` of the training file.
        test: the test file; None takes `test_share` of the training file.
        missing: what a missing value becomes: "zero" (with `standardize`, the mean of its channel), "last" (the last
            one observed in its channel, zero before the first), or "error".
        standardize: subtract each channel's mean and divide by its standard deviation, both of the observed values of
            the training series; otherwise values are left as they are.
        series: of a table, the column that tells series apart: its name in the header, or its number from 0.
        label: of a table, the column of their classes; None: the one called "label".
        order: of a table, a column of numbers, such as times, by which the steps of a series are ordered; None: as they
            stand in the file.
        channels: of a table, the columns of values, as a list or "x,y"; None: all others.
        delimiter: of a table, the character between columns, "tab" for a tab; None: a tab in ".tsv" and ".tab" files,
            else a comma.
        **common: `val_share`, `test_share`, `split_seed`, `data_dir`, `batch_size`, `eval_batch_size`, `num_workers`,
            `seed`: see `OwnFiles` and `SequenceDataModule`.

    Raises:
        ValueError: when data are read, a malformed file or a class that is not among the training file's; it names the
            file and the line.
    """

    task: ClassVar[Task] = "classification"
    kind = "class"
    labelled = "label"

    @cached_property
    def class_names(self) -> list[str]:
        """The classes in the order of their ids."""
        train = self._series["train"]
        return list(train[0].classes) or sorted({read.one.label for read in train})

    @property
    def vocabularies(self) -> dict[str, list[str]]:
        """The classes in the order of their ids."""
        return {"class": self.class_names}

    def load(self) -> dict[str, list[Example]]:
        """Read the files, standardize, and fill in missing values."""
        _ = self.class_names
        return super().load()

    def _target(self, read: _Read) -> Tensor:
        if read.one.label not in self.class_names:
            where = f"{read.path}, line {read.one.line}"
            raise ValueError(f"{where}: class {expected_one_of(read.one.label, self.class_names)}")
        return torch.tensor(self.class_names.index(read.one.label))

    @cached_property
    def spec(self) -> Spec:
        """One feature per channel, one output per class."""
        channels = self.examples("train")[0][0].shape[1]
        return Spec(self.task, num_features=channels, num_outputs=len(self.class_names), max_length=self.max_length)


class TimeSeriesRegression(_SeriesFiles):
    """Your own time series by a number: tables with a row per step, or `.ts` files with `@targetLabel true`.

    Args:
        train: the training file.
        val: the validation file; None takes `val_share` of the training file.
        test: the test file; None takes `test_share` of the training file.
        missing: see `TimeSeries`.
        standardize: see `TimeSeries`; targets are left as they are.
        series: see `TimeSeries`.
        label: of a table, the column of targets; None: the one called "target".
        order: see `TimeSeries`.
        channels: see `TimeSeries`.
        delimiter: see `TimeSeries`.
        **common: `val_share`, `test_share`, `split_seed`, `data_dir`, `batch_size`, `eval_batch_size`, `num_workers`,
            `seed`: see `OwnFiles` and `SequenceDataModule`.

    Raises:
        ValueError: when data are read, a malformed file; it names the file and the line.
    """

    task: ClassVar[Task] = "regression"
    kind = "target"
    labelled = "target"

    def _target(self, read: _Read) -> Tensor:
        try:
            return torch.tensor([float(read.one.label)])
        except ValueError:
            where = f"{read.path}, line {read.one.line}"
            raise ValueError(f"{where}: target {read.one.label[:60]!r}, a number was expected") from None

    @cached_property
    def spec(self) -> Spec:
        """One feature per channel, one target."""
        channels = self.examples("train")[0][0].shape[1]
        return Spec(self.task, num_features=channels, num_outputs=1, max_length=self.max_length)
