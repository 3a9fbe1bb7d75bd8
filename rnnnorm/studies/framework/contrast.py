"""Contrasts: a level of a quantity, or its difference between two points of the grid, paired by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from rnnnorm.common.estimate import estimate
from rnnnorm.studies.framework.case import Case
from rnnnorm.studies.framework.measurements import difference, per_seed, where
from rnnnorm.studies.framework.selection import Only, Point, Words, narrowed, occurring, points, spoken


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

    def cases(self, m: pd.DataFrame, words: Words) -> Iterator[tuple[dict[str, Any], Case]]:
        """Each point and its case; points where nothing was measured have no case.

        Args:
            m: measurements, derived quantities among them.
            words: how values are written.
        """
        rows = self._rows(m)
        for point, reference in self.pairs(m):
            values = per_seed(rows, **point)
            if reference is not None:
                pair = (values, per_seed(rows, **reference))
                effect = estimate(difference(*(pair[::-1] if self.turned else pair)))
            else:
                effect = estimate(values)
            if effect.n:
                needed, below = (rule(point) if callable(rule) else rule for rule in (self.needed, self.below))
                yield point, Case(self.named(point, reference, words), effect, float(needed), bool(below))

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

    def _fixed(self) -> Mapping[str, Any] | None:
        return {"norm": self.against} if isinstance(self.against, str) else self.against

    def _reference(self, rows: pd.DataFrame) -> dict[str, Any] | None:
        """The values of the reference; None where there is none."""
        fixed = self._fixed()
        if fixed is None:
            return None
        values = {c: rule(occurring(rows, c)) if callable(rule) else rule for c, rule in fixed.items()}
        return None if any(value is None for value in values.values()) else values
