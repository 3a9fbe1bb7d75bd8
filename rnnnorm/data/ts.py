"""The `.ts` file format of the UEA and UCR archives: series of one or more channels, each with a class or a target."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnnnorm.data.files import read_text

Kind = Literal["class", "target"]
"""Labels of series: classes, or numbers for regression."""


class Series(NamedTuple):
    """One series.

    Args:
        values: (steps, channels); NaN where a value is missing.
        label: its class or target, as it stands in the file.
        line: its line in the file, from 1.
    """

    values: NDArray[np.float32]
    label: str
    line: int


class SeriesFile(NamedTuple):
    """The series of a `.ts` file.

    Args:
        series: in the order of the file.
        kind: of their labels: "class", or "target" for regression.
        classes: those that the header lists, in its order; () where it lists none.
        channels: the names of the columns of values of a table; a `.ts` file has none.
    """

    series: list[Series]
    kind: Kind
    classes: tuple[str, ...]
    channels: tuple[str, ...] = ()


def read_ts(path: Path, missing: bool = False) -> SeriesFile:
    """Read a `.ts` file.

    After comments (#) and header lines (@, in upper or lower case) up to "@data", each line is one series: its
    channels, separated by ":", each a comma-separated list of values, and at last the label. A missing value is "?" or
    "NaN". Of the header, `@timeStamps`, `@univariate`, `@dimensions`, `@equalLength`, `@seriesLength`, `@classLabel`
    and `@targetLabel` are read, and the series must be what it says; a line that is not there says nothing.

    Args:
        path: the file; ".gz" is read too.
        missing: whether values may be missing.

    Raises:
        ValueError: the file is no `.ts` file, has timestamps or no labels, or a series is not what the header says, has
            channels of different lengths, or values that are missing or no numbers. The message names the line.

    Source: https://www.sktime.net/en/stable/api_reference/file_specifications/ts.html
    """
    lines = enumerate((line.strip() for line in read_text(path).split("\n")), start=1)
    header: dict[str, str] = {}
    for _, line in lines:
        if line.startswith("@"):
            name, *value = f"{line[1:]} ".split(maxsplit=1) or [""]
            header[name.lower()] = "".join(value).strip()
            if "data" in header:
                break
    else:
        raise ValueError(f"{path} is no .ts file: it has no line @data (tables are called .csv, .tsv or .tab)")
    if _says(header, "timestamps"):
        raise ValueError(f"{path} has timestamps (@timeStamps true), which are not read: expected values only")
    kind, classes = _labels(path, header)
    channels = _number(path, header, "dimensions", _number(path, header, "dimension"))
    channels = 1 if _says(header, "univariate") else channels
    steps = _number(path, header, "serieslength") if _says(header, "equallength") else None
    series: list[Series] = []
    for number, line in lines:
        if not line:
            continue
        one = _series(path, number, line, missing)
        steps = len(one.values) if steps is None and _says(header, "equallength") else steps
        for has, expected, noun in ((one.values.shape[1], channels, "channels"), (len(one.values), steps, "steps")):
            if expected not in (None, has):
                raise ValueError(f"{path}, line {number}: {has} {noun}, but by its header the file has {expected}")
        series.append(one)
    if not series:
        raise ValueError(f"{path} has no series after @data")
    return SeriesFile(series, kind, classes)


def _says(header: dict[str, str], name: str) -> bool:
    return header.get(name, "").lower().split()[:1] == ["true"]


def _number(path: Path, header: dict[str, str], name: str, default: int | None = None) -> int | None:
    value = header.get(name)
    if value is None:
        return default
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"{path}: @{name} must be a number of at least 1, got {value[:60]!r}")
    return int(value)


def _labels(path: Path, header: dict[str, str]) -> tuple[Kind, tuple[str, ...]]:
    if _says(header, "targetlabel"):
        return "target", ()
    says, *classes = header.get("classlabel", "true").split() or ["true"]
    if says.lower() != "true":
        raise ValueError(f"{path} has no labels (@classLabel {says}): expected @classLabel true or @targetLabel true")
    return "class", tuple(classes)


def _series(path: Path, number: int, line: str, missing: bool) -> Series:
    *channels, label = line.split(":")
    where = f"{path}, line {number}"
    if not channels:
        raise ValueError(f"{where}: no channels before the class {label[:60]!r}")
    if "?" in line:
        channels = [channel.replace("?", "nan") for channel in channels]
    rows = [channel.split(",") for channel in channels]
    if len(lengths := sorted({len(row) for row in rows})) > 1:
        raise ValueError(f"{where}: channels of {lengths[0]} to {lengths[-1]} steps, but all must have equally many")
    try:
        if "_" in line.rpartition(":")[0]:  # Python takes 1_000 for a number
            raise ValueError("found '_'")
        values = np.array(rows, dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"{where}: not channels of equal length made of numbers: {error}") from error
    if not missing and np.isnan(values).any():
        channel, step = (int(k) for k in np.argwhere(np.isnan(values))[0])
        raise ValueError(f"{where}: the value of channel {channel} at step {step} is missing, all were expected")
    return Series(values.T, label.strip(), number)
