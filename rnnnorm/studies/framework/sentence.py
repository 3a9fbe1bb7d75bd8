"""Sentences made from measurements: formats filled in with means over seeds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from rnnnorm.common.estimate import estimate
from rnnnorm.studies.framework.measurements import difference, per_seed, where
from rnnnorm.studies.framework.selection import Only, Point, Words, fields, narrowed, points, signed, spoken


@dataclass(frozen=True)
class Sentence:
    """A finding: one sentence per point, whose numbers are means over seeds.

    `{layers}` is the value of a column of `by`, in words; `{gain:+.3f}` the mean of the quantity `gain` at the point;
    `{items}` a list with an item per norm, `{first}` and `{last}` its ends. A point at which one of the quantities was
    not measured has no sentence.

    Args:
        text: the format.
        by: columns; each combination of their values has a sentence.
        only: column → which of its values.
        items: the format of an item, such as `"{norm} {loss:.3f}"`.
        over: columns whose combinations are items.
        rising: items from the smallest to the largest value of their first quantity, or the reverse; None: as measured.
        least: with fewer items there is no sentence.
    """

    text: str
    by: Sequence[str] = ()
    only: Only = field(default_factory=dict)
    items: str = ""
    over: Sequence[str] = ("norm",)
    rising: bool | None = None
    least: int = 1

    def said(self, m: pd.DataFrame, words: Words) -> Iterator[str]:
        """The sentences.

        Args:
            m: measurements, derived quantities among them.
            words: how values are written.
        """
        columns = [*self.by, *self.over]
        rows = narrowed(m, {column: rule for column, rule in self.only.items() if column not in columns})
        for point in points(rows, self.by, self.only):
            here, listed = where(rows, **point), {}
            if self.items:
                items = self._items(here, words)
                if len(items) < self.least:
                    continue
                listed = {"items": ", ".join(items), "first": items[0], "last": items[-1], "count": str(len(items))}
            text = _filled(self.text, here, {**point, **listed}, words)
            if text is not None:
                yield text

    def _items(self, m: pd.DataFrame, words: Words) -> list[str]:
        made = []
        for point in points(m, self.over, self.only):
            here = where(m, **point)
            text = _filled(self.items, here, point, words)
            if text is not None:
                quantity = next((name for name in fields(self.items) if name not in point), "")
                made.append((_mean(here, quantity), text))
        if self.rising is not None:
            made.sort(key=lambda pair: pair[0], reverse=not self.rising)
        return [text for _, text in made]


@dataclass(frozen=True)
class Best:
    """What is best of all that a study compares, batch normalization or not; findings begin with it.

    In each condition the smallest (or `greatest`) mean over seeds wins; a training that diverged counts as infinite.
    The runner-up may be as good unless the 95 % interval of its distance, paired by seed, leaves 0 out.

    Args:
        quantity: what is compared.
        called: what its numbers are, with their unit: `"test loss in nats"`.
        name: what competes: a format of the columns that tell it apart.
        at: the condition: a format of its columns; without, there is one.
        only: column → which of its values.
        greatest: the greatest number is the best one.
    """

    quantity: str
    called: str
    name: str = "`{norm}`"
    at: str = ""
    only: Only = field(default_factory=dict)
    greatest: bool = False

    def said(self, m: pd.DataFrame, words: Words) -> Iterator[str]:
        """The sentence; none where fewer than two compete.

        Args:
            m: measurements, derived quantities among them.
            words: how values are written.
        """
        by, over = fields(self.at), fields(self.name)
        fixed = {column: rule for column, rule in self.only.items() if column not in (*by, *over)}
        rows, won = narrowed(where(m, quantity=self.quantity), fixed), dict[str, list[str]]()
        for point in points(rows, by, self.only):
            here = where(rows, **point)
            values = {
                spoken(self.name, rival, words): per_seed(here, **rival) for rival in points(here, over, self.only)
            }
            values = {name: value for name, value in values.items() if value.notna().any()}
            if len(values) > 1:
                name, note = self._winner(values)
                won.setdefault(name, []).append(f"{spoken(self.at, point, words)} ({note})".strip())
        if won:
            winners = "; ".join(f"{name} {', '.join(notes)}" for name, notes in won.items())
            yield f"Best of all by {self.called}: {winners}."

    def _winner(self, values: Mapping[str, pd.Series]) -> tuple[str, str]:
        """Who wins, and its number, with the runner-up if the seeds do not tell it apart."""
        best, second, *_ = sorted(values, key=lambda name: values[name].mean() * (-1 if self.greatest else 1))
        apart = estimate(difference(values[best], values[second]))
        told = apart.low > 0 or apart.high < 0 or not math.isfinite(values[second].mean())
        return best, signed(f"{values[best].mean():.3g}") + ("" if told else f"; {second} may be as good")


def _filled(template: str, m: pd.DataFrame, point: Point, words: Words) -> str | None:
    """A format with values of the point and means of quantities; None if a quantity is missing."""
    means = {name: _mean(m, name) for name in fields(template) if name not in point}
    return None if any(math.isnan(mean) for mean in means.values()) else spoken(template, {**point, **means}, words)


def _mean(m: pd.DataFrame, quantity: str) -> float:
    return estimate(per_seed(m, quantity=quantity)).mean


def divergence(m: pd.DataFrame, counted: str = "", by: str = "{norm}", words: Words | None = None) -> Iterator[str]:
    """How many trainings diverged, if any did.

    Args:
        m: measurements.
        counted: how such a training is counted.
        by: what is told apart: a format of the columns.
        words: how values are written.
    """
    measured = where(m, quantity="diverged")
    lost = where(measured, value=1.0)
    if len(lost):
        counts = Counter(spoken(by, point, words or Words()) for point in lost[fields(by)].to_dict("records"))
        names = ", ".join(f"{name} ({count})" for name, count in counts.items())
        yield f"{len(lost)} of {len(measured)} trainings diverged{counted and f' and {counted}'}: {names}."


def at_ends(m: pd.DataFrame, best: pd.DataFrame, over: str, by: str, words: Words) -> Iterator[str]:
    """Where the best learning rate is the smallest or the largest that was tried: a better one may lie beyond.

    Args:
        m: measurements at all rates.
        best: those at the best ones.
        over: the column of the rates.
        by: what has a best rate of its own: a format of its columns.
        words: how values are written.
    """
    per = fields(by)
    if not {over, *per} <= {*m} or not {over, *per} <= {*best}:
        return
    tried = m.dropna(subset=[over, *per]).groupby(per, sort=False)[over].agg(["min", "max"])
    chosen = best.dropna(subset=[over, *per]).groupby(per, sort=False)[over].first()
    found = []
    for key, rate in chosen.items():
        low, high = tried.loc[key]
        if low < high and rate in (low, high):
            point = dict(zip(per, key if isinstance(key, tuple) else (key,), strict=True))
            found.append(f"{spoken(by, point, words)} ({'smallest' if rate == low else 'largest'})")
    if found:
        yield f"The best learning rate is at an end of the range for {len(found)} of {len(chosen)}: {'; '.join(found)}."
