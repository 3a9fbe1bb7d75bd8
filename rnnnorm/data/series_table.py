"""Series in a CSV or TSV file with a row per step, as loggers write it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnnnorm.data.table import Dialect, Table
from rnnnorm.data.ts import Kind, Series, SeriesFile

MISSING = ("", "?", "nan", "na", "null")
"""What stands for a value that is missing, in any case of letters."""


class Columns(NamedTuple):
    """Which column is what: its name in the header, or its number from 0, from the end if negative.

    Args:
        series: what tells series apart, such as the number of a recording.
        label: the class or target of the series, the same in all of its rows.
        order: a number by which the rows of a series are ordered, such as a time; None: as they stand in the file.
        channels: the values; None: all other columns.
    """

    series: int | str
    label: int | str
    order: int | str | None = None
    channels: Sequence[int | str] | None = None


@dataclass
class _One:
    """What has been read of a series."""

    line: int
    label: str
    values: list[list[float]] = field(default_factory=list)
    order: list[float] = field(default_factory=list)


def read_series_table(path: Path, columns: Columns, kind: Kind, dialect: Dialect, missing: bool = False) -> SeriesFile:
    """Read series of which each row of a table is one step of one of them; rows of several series may alternate.

    Args:
        path: the file.
        columns: which column is what.
        kind: of the labels.
        dialect: how the file is written; it has a header.
        missing: whether values may be missing: an empty field, "?", "NaN", "NA" or "null".

    Returns:
        the series in the order of their first rows; `Series.line` is that of the first row.

    Raises:
        ValueError: a column does not exist or is used twice, a value is no finite number, a series has no name or two
            labels, or two of its rows have the same place in the order. The message names the line.
    """
    table = Table(path, dialect)
    series, label = table.column("series", columns.series), table.column("label", columns.label)
    order = None if columns.order is None else table.column("order", columns.order)
    channels = _channels(table, columns, {"series": series, "label": label, "order": order})
    found: dict[str, _One] = {}
    for line, row in table:
        where, name = f"{path}, line {line}", row[series].strip()
        if not name:
            raise ValueError(f"{where}: column {table.first[series]!r} is empty, the name of a series was expected")
        one = found.setdefault(name, _One(line, row[label].strip()))
        if row[label].strip() != one.label:
            raise ValueError(
                f"{where}: series {name[:60]!r} is labelled {row[label].strip()[:60]!r}, but "
                f"{one.label[:60]!r} in line {one.line}: one label for each series was expected"
            )
        if not one.label:
            raise ValueError(f"{where}: column {table.first[label]!r} is empty, a label was expected")
        one.values.append([_number(row[k], where, table.first[k], missing) for k in channels])
        if order is not None:
            one.order.append(_number(row[order], where, table.first[order], missing=False))
    if not found:
        raise ValueError(f"{path} has a header and no rows")
    names = tuple(table.first[k] for k in channels)
    return SeriesFile([_finished(path, name, one) for name, one in found.items()], kind, (), names)


def _channels(table: Table, columns: Columns, taken: dict[str, int | None]) -> list[int]:
    """The numbers of the columns of values."""
    uses = [(noun, number) for noun, number in taken.items() if number is not None]
    if columns.channels is None:
        used = {number for _, number in uses}
        uses += [("channel", k) for k in range(len(table.first)) if k not in used]
    else:
        uses += [("channel", table.column("channels", given)) for given in columns.channels]
    for place, (noun, number) in enumerate(uses):
        before = [other for other, k in uses[:place] if k == number]
        if before:
            column = table.first[number]
            raise ValueError(f"{table.path}, line 1: column {column!r} is named as {before[0]} and as {noun}")
    channels = [number for noun, number in uses if noun == "channel"]
    if not channels:
        raise ValueError(f"{table.path}, line 1: no column is left for values, at least one was expected")
    return channels


def _number(text: str, where: str, column: str, missing: bool) -> float:
    word = text.strip()
    if word.lower() in MISSING:
        if missing:
            return math.nan
        raise ValueError(f"{where}: the value of column {column!r} is missing, all were expected")
    try:
        if "_" in word:  # Python takes 1_000 for a number
            raise ValueError
        value = float(word)
    except ValueError:
        raise ValueError(
            f"{where}: column {column!r} holds {word[:60]!r}, a number was expected; name the columns of values by "
            "channels, and that of times by order"
        ) from None
    if not math.isfinite(value):
        raise ValueError(f"{where}: column {column!r} holds {word[:60]!r}, a finite number was expected")
    return value


def _finished(path: Path, name: str, one: _One) -> Series:
    """The series with its steps in order."""
    values = np.array(one.values, dtype=np.float32)
    if one.order:
        places = np.argsort(one.order, kind="stable")
        ordered = np.array(one.order)[places]
        if (same := np.flatnonzero(np.diff(ordered) == 0)).size:
            raise ValueError(
                f"{path}: series {name[:60]!r} has two rows of order {ordered[same[0]]:g}, one of each was expected"
            )
        values = values[places]
    return Series(values, one.label, one.line)
