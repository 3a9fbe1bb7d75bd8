"""Contrasts: a level of a quantity, or its difference between two points of the grid, paired by seed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from rnnnorm.studies.framework.case import NOT_APPLICABLE, NOT_LEARNED, Case
from rnnnorm.studies.framework.interval import interval
from rnnnorm.studies.framework.measurements import difference, per_seed, where
from rnnnorm.studies.framework.selection import Only, Point, Words, narrowed, occurring, points, spoken
from rnnnorm.studies.framework.trial import Trial

LEARNED = 0.1
"""A network that got less far than this between guessing and certainty has not learned."""


@dataclass(frozen=True)
class Contrast:
    """One case per condition: the level of a quantity, or its difference to a reference, seed by seed.

    Args:
        quantity: as `measure` or `derive` names it.
        unit: of the effect: `nats`, `factor per step`, …
        norms: which normalizers: names, one name, or a function from those that occur to those that are meant; with
            several, or a function, norms are conditions of their own.
        against: the reference: a norm, or column → value (or a function from the values that occur to that value);
            other columns are as at the point. Without, the level itself is the effect. A point is not compared with
            itself.
        by: columns whose values are conditions, the outermost loop first; norms are the innermost one unless "norm" is
            among them.
        only: column → which of its values, as for norms.
        needed: the claim says that the effect is above this; a function of the point where it depends on it.
        below: the claim says that it is below; or a function of the point.
        null: the effect if there is none: 0 for differences, 1 for factors; `needed` - `null` is the smallest effect of
            interest. Equal to `needed` for a mere threshold.
        scope: whether the claim's source speaks of a point; None: of all.
        turned: the difference is reference minus point.
        label: the condition in words: a format of the columns, and of the reference as `{against[batch]}`, or a
            function of the point; without, the values of the columns with the norm first.
    """

    quantity: str
    unit: str
    norms: str | Sequence[str] | Callable[[list[str]], Sequence[str]] | None = None
    against: str | Mapping[str, Any] | None = None
    by: Sequence[str] = ()
    only: Only = field(default_factory=dict)
    needed: float | Callable[[Point], float] = 0.0
    below: bool | Callable[[Point], bool] = False
    null: float | Callable[[Point], float] = 0.0
    scope: Callable[[Point], bool] | None = None
    turned: bool = False
    label: str | Callable[[Point], str] = ""

    @property
    def conditions(self) -> tuple[str, ...]:
        """The columns that distinguish cases."""
        inner = self.norms is not None and not isinstance(self.norms, str) and "norm" not in self.by
        return (*self.by, "norm") if inner else tuple(self.by)

    @property
    def chosen(self) -> dict[str, Any]:
        """`only`, with the norms in it."""
        return {**self.only, **({} if self.norms is None else {"norm": self.norms})}

    def pairs(self, m: pd.DataFrame) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
        """Each point and its reference, None for a level.

        Args:
            m: measurements, derived quantities among them.
        """
        rows = self._rows(m)
        reference = self._reference(rows)
        if self.against is not None and reference is None:
            return
        columns = [*self.conditions, *(column for column in reference or {} if column not in self.conditions)]
        for point in points(rows, columns, self.chosen):
            if reference is None:
                yield point, None
            elif any(point[column] != value for column, value in reference.items()):
                yield point, {**point, **reference}

    def cases(
        self, m: pd.DataFrame, words: Words, of_trials: Collection[str] = ("norm",)
    ) -> Iterator[tuple[dict[str, Any], Case]]:
        """Each point and its case; points where nothing was measured have no case.

        Args:
            m: measurements, derived quantities among them.
            words: how values are written.
            of_trials: columns that tell trials apart; points that differ in others come from the same runs.
        """
        for point, _, found in self.compared(m, words, of_trials):
            if found.effect.n:
                yield point, found

    def compared(
        self, m: pd.DataFrame, words: Words, of_trials: Collection[str]
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None, Case]]:
        """Each point, its reference and its case, measured or not; see `cases`."""
        rows = self._rows(m)
        inert, learned = where(m, quantity="inapplicable", value=1.0), where(m, quantity="above_guessing")
        for point, reference in self.pairs(m):
            values: Any = per_seed(rows, **point)
            if reference is not None:
                pair = (values, per_seed(rows, **reference))
                values = difference(*(pair[::-1] if self.turned else pair))
            rules = (self.needed, self.below, self.null)
            needed, below, null = (rule(point) if callable(rule) else rule for rule in rules)
            found = Case(
                self.named(point, reference, words),
                interval(values),
                float(needed),
                bool(below),
                float(null),
                self._runs(point, reference, of_trials),
                self.scope is None or self.scope(point),
                set_aside(same_trials(inert, where(rows, **point), of_trials), learned, point, reference),
            )
            yield point, reference, found

    def concerns(self, trial: Trial, point: Point, reference: Point | None, of_trials: Collection[str]) -> bool:
        """Whether a trial stands where one of a case's trials stands, whatever its norm and seed.

        Norms of one arm are paired by seed, and derived quantities may need all of them.
        """
        fixed = {column: rule for column, rule in self.chosen.items() if isinstance(rule, str | int | float)}
        told = [
            {c: v for c, v in {**fixed, **one}.items() if c in of_trials and c != "norm"}
            for one in (point, reference or point)
        ]
        return any(all(trial.conditions.get(column) == value for column, value in one.items()) for one in told)

    def named(self, point: Point, reference: Point | None, words: Words) -> str:
        """The condition of a point in words."""
        if callable(self.label):
            return self.label(point)
        columns = sorted(self.conditions, key=lambda column: column != "norm")
        template = self.label or ", ".join(f"{{{column}}}" for column in columns)
        return spoken(template, {**point, "against": reference}, words)

    def _rows(self, m: pd.DataFrame) -> pd.DataFrame:
        """What is measured of the quantity, without what is chosen of no point and no reference."""
        varied = {*self.conditions, *(self._fixed() or {})}
        aside = {column: rule for column, rule in self.chosen.items() if column not in varied}
        return narrowed(where(m, quantity=self.quantity), aside)

    def _runs(self, point: Point, reference: Point | None, of_trials: Collection[str]) -> Hashable:
        """What tells the runs that a case is made of from those of others."""
        here = {c: repr(rule) for c, rule in self.chosen.items() if c not in point}
        return tuple(
            tuple((column, str(value)) for column, value in part.items() if column in of_trials)
            for part in (here, point, reference or {})
        )

    def _fixed(self) -> Mapping[str, Any] | None:
        return {"norm": self.against} if isinstance(self.against, str) else self.against

    def _reference(self, rows: pd.DataFrame) -> dict[str, Any] | None:
        """The values of the reference; None where there is none."""
        fixed = self._fixed()
        if fixed is None:
            return None
        values = {c: rule(occurring(rows, c)) if callable(rule) else rule for c, rule in fixed.items()}
        return None if any(value is None for value in values.values()) else values


def same_trials(rows: pd.DataFrame, like: pd.DataFrame, of_trials: Collection[str]) -> pd.DataFrame:
    """The rows that may be of the same trials as others: those with other values where trials differ are left out.

    A study may measure several things in trials of their own: that a norm is refused in one of them says nothing of
    another one.

    Args:
        rows: which are chosen from.
        like: the others.
        of_trials: columns that tell trials apart.
    """
    for column in of_trials:
        if column in rows and column in like and len(like) and like[column].notna().all():
            rows = rows[rows[column].isna() | rows[column].isin(like[column])]
    return rows


def set_aside(inert: pd.DataFrame, learned: pd.DataFrame, point: Point, reference: Point | None) -> str:
    """Why a comparison is no evidence: "not applicable", "not learned", or "" if it is one.

    Args:
        inert: rows `inapplicable`: at their points what is varied changes nothing.
        learned: rows `above_guessing`: how far networks got between guessing (0) and certainty (1).
        point: which.
        reference: what it is compared with.
    """
    if len(_at(inert, point)):
        return NOT_APPLICABLE
    reached = [_at(learned, one)["value"].mean() for one in (point, reference) if one is not None]
    return NOT_LEARNED if max(reached) < LEARNED else ""


def _at(rows: pd.DataFrame, point: Point) -> pd.DataFrame:
    """The rows at a point, as far as they have its columns."""
    return where(rows, **{c: value for c, value in point.items() if c in rows and rows[c].notna().any()})
