"""Selection: points of a table of measurements, and how they are called in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from string import Formatter
from typing import Any

import pandas as pd

from rnnnorm.studies.framework.measurements import where

Point = Mapping[str, Any]
"""Column → value."""

Only = Mapping[str, Any]
"""Column → which of its values: one, a list of them, or a function from those that occur to those that are meant."""

Rule = Callable[[Sequence[Any]], list[Any]]
"""From the values that occur to those that are meant."""


class Words(dict[str, Any]):
    """Column → how its values are written: a mapping, a function, or a format such as `"{:g} layers"`."""


def within(**values: Any) -> Callable[[Point], bool]:
    """A rule that says of a point whether its columns have one of the given values each; for `Contrast.scope`.

    Args:
        **values: column → a value, or several.
    """
    several = {key: (value,) if isinstance(value, str | int | float) else value for key, value in values.items()}
    return lambda point: all(point[key] in allowed for key, allowed in several.items())


def occurring(m: pd.DataFrame, column: str) -> list[Any]:
    """The values of a column: numbers ascending, words in the order of the table; none if there is no such column."""
    if column not in m:
        return []
    found = m[column].dropna().unique().tolist()
    return found if any(isinstance(value, str) for value in found) else sorted(found)


def first(found: Sequence[Any]) -> list[Any]:
    """The first of the values that occur; for `only`."""
    return [*found[:1]]


def last(found: Sequence[Any]) -> list[Any]:
    """The last of the values that occur: the greatest number; for `only`."""
    return [*found[-1:]]


def ends(found: Sequence[Any]) -> list[Any]:
    """The first and the last of the values that occur; for `only`."""
    return [*dict.fromkeys([*found[:1], *found[-1:]])]


def backwards(found: Sequence[Any]) -> list[Any]:
    """The values that occur, the greatest number first; for `only`."""
    return [*found[::-1]]


def leading(*values: Any) -> Rule:
    """A rule for `only`: all values that occur, these before the others."""
    return lambda found: sorted(found, key=lambda value: value not in values)


def preferring(value: Any) -> Rule:
    """A rule for `only`: one value where it occurs, else the first one."""
    return lambda found: [value] if value in found else first(found)


def beginning(*starts: str, having: str = "", but: tuple[str, ...] = ()) -> Rule:
    """A rule for `only`: the words that begin with one of some, have a part, and begin with none of others."""

    def those(found: Sequence[Any]) -> list[Any]:
        meant = [word for word in found if str(word).startswith(starts or ("",)) and having in str(word)]
        return [word for word in meant if not str(word).startswith(but)]

    return those


def chosen(m: pd.DataFrame, column: str, rule: Any) -> list[Any]:
    """The values of a column that a rule of `Only` means, in its order; those of a list need not occur."""
    if rule is None:
        return occurring(m, column)
    if callable(rule):
        return list(rule(occurring(m, column)))
    return list(rule) if isinstance(rule, list | tuple | set | frozenset) else [rule]


def narrowed(m: pd.DataFrame, only: Only) -> pd.DataFrame:
    """The rows that have the chosen values, column after column."""
    for column, rule in only.items():
        m = where(m, **{column: chosen(m, column, rule)})
    return m


def points(m: pd.DataFrame, by: Sequence[str], only: Only) -> Iterator[dict[str, Any]]:
    """The points of a grid, the first column being the outermost loop.

    Args:
        m: measurements.
        by: the columns.
        only: what is chosen of them.
    """
    if not by:
        yield {}
        return
    column, *others = by
    for value in chosen(m, column, only.get(column)):
        for point in points(where(m, **{column: value}), others, only):
            yield {column: value, **point}


def names_matching(*presets: str) -> Rule:
    """A rule for `only`: the norms that are one of some presets, with whatever overrides."""
    return lambda found: [norm for norm in found if norm.split(":")[0] in presets]


def signed(number: str) -> str:
    """A number as it is read: with a minus sign, not a hyphen, none before a zero, and `1e−5` for `1e-05`."""
    if re.fullmatch(r"-0(\.0*)?%?", number):
        return number[1:]
    return re.sub(r"e([+-])0*", lambda found: "e" + found[1].strip("+"), number).replace("-", "−")


class _Speaker(Formatter):
    """`str.format` that writes numbers with a minus sign, and those without a format of their own as `%g`."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return str(super().format_field(value, format_spec))
        return signed(str(super().format_field(value, format_spec or "g")))


def in_words(column: str, value: Any, words: Words) -> Any:
    """A value as the words of a study have it; without any, the value itself."""
    said = words.get(column)
    if said is None:
        return value
    if isinstance(said, str):
        return said.format(value)
    if callable(said):
        return said(value)
    return said.get(value, value)


def spoken(template: str, point: Point, words: Words) -> str:
    """A format filled in with the values of a point, in words.

    Raises:
        KeyError: the format names a column that the point does not have.
    """
    return _Speaker().vformat(template, (), {column: in_words(column, v, words) for column, v in point.items()})


def fields(template: str) -> list[str]:
    """The names in a format, each once."""
    return list(dict.fromkeys(name for _, name, _, _ in Formatter().parse(template) if name))
