"""Tables of the user's own: CSV and TSV files with named or numbered columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rnnnorm.data.files import LONGEST_LINE, read_text

TAB_SUFFIXES = (".tsv", ".tab")
SUFFIXES = (".csv", *TAB_SUFFIXES)


def is_table(path: Path) -> bool:
    """Whether a file is called like a CSV or TSV file, gzipped or not."""
    return path.name.lower().removesuffix(".gz").endswith(SUFFIXES)


class Dialect(NamedTuple):
    """How a table is written.

    Args:
        header: whether the first line has the names of the columns.
        delimiter: the character between columns, "tab" for a tab; None: a tab in ".tsv" and ".tab" files, else a comma.
        quotes: whether double quotes have a meaning; otherwise they are characters like others.
    """

    header: bool = True
    delimiter: str | None = None
    quotes: bool = True

    def checked(self) -> Dialect:
        """The same, if its delimiter can be one.

        Raises:
            ValueError: it cannot.
        """
        delimiter = "\t" if self.delimiter == "tab" else self.delimiter
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise ValueError(f'delimiter must be one character other than ", or "tab", got {self.delimiter!r}')
        return self._replace(delimiter=delimiter)


class Table:
    """Rows of a CSV or TSV file, read by Python's `csv` module; blank lines are skipped.

    A field in double quotes may contain delimiters, line feeds and, doubled, double quotes.

    Args:
        path: the file; ".gz" is read too.
        dialect: how it is written.
        hint: what messages on malformed rows end with.

    Raises:
        ValueError: the file is blank, no UTF-8, or no table; while rows are taken, also a row that has more or fewer
            columns than the first. The message names the line.
    """

    def __init__(self, path: Path, dialect: Dialect, hint: str = "") -> None:
        self.path, self.dialect, self.hint = path, dialect, hint
        self._rows = self._read()
        self._first_line, self.first = next(self._rows)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Each row with its line, from 1, without the header."""
        if not self.dialect.header:
            yield self._first_line, self.first
        for line, row in self._rows:
            if len(row) != len(self.first):
                has = f"{len(row)} columns, where the first line has {len(self.first)}"
                raise ValueError(f"{self.path}, line {line}: {has}{self.hint}")
            yield line, row

    def column(self, noun: str, given: int | str) -> int:
        """The number of a column, from 0.

        Args:
            noun: what it is a column of, for messages.
            given: its name in the header, or its number from 0, from the end if negative.

        Raises:
            ValueError: there is no such column, or more than one of the name.
        """
        first, header = self.first, self.dialect.header
        if isinstance(given, str):
            if not header:
                names = f"{noun}={given!r} names a column"
                raise ValueError(f"{self.path}: {names}, but with header=false columns are numbers from 0")
            if (count := first.count(given)) > 1:
                raise ValueError(f"{self.path}, line 1: {count} columns are called {given!r}, one was expected")
            if count:
                return first.index(given)
        elif -len(first) <= given < len(first):
            return given % len(first)
        there = f"columns {', '.join(map(repr, first))}" if header else f"no header and {len(first)} columns"
        raise ValueError(f"{self.path}, line 1: no {noun} column {given!r}: the file has {there}; choose by {noun}")

    def _read(self) -> Iterator[tuple[int, list[str]]]:
        """The rows that are not blank, each with its first line."""
        tabs = self.path.name.lower().removesuffix(".gz").endswith(TAB_SUFFIXES)
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))  # 131,072 characters is less than a long text
        reader = csv.reader(
            io.StringIO(read_text(self.path, LONGEST_LINE), newline=""),
            delimiter=self.dialect.delimiter or ("\t" if tabs else ","),
            quoting=csv.QUOTE_MINIMAL if self.dialect.quotes else csv.QUOTE_NONE,
            strict=True,
        )
        line = 1
        try:
            for row in reader:
                if row:
                    yield line, row
                line = reader.line_num + 1
        except csv.Error as error:
            raise ValueError(f"{self.path}, line {line}: {error}{self.hint}") from error
