"""Tables of a benchmark, for the terminal and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import pandas as pd
from rich.markup import escape
from rich.table import Table

from .records import (
    BUSY,
    EAGER,
    OURS,
    PADDED,
    PEAK,
    RATIO,
    REFERENCE,
    SAME_KIND,
    SCRIPT,
    SCRIPTED,
    SHARE,
    Record,
    geometric_mean,
    pick,
)
from .shapes import LENGTHS
from .summary import GOALS, summarize

_TITLES = {
    "dense": "Training step (forward + backward), dense",
    "ragged": "Training step, {} lengths",
    "forward": "Forward pass without a graph, {}",
    "memory": "Peak memory of a training step",
    "streaming": "One timestep of one sequence",
    "growth": "Training step as T, B, H grow",
    "busy": "Training step beside a busy process for every two threads",
    "busy-forward": "Forward pass beside a busy process for every two threads",
    "kinds": "Training step of other cells and options",
}


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Args:
        title: above it.
        head: of the columns.
        rows: as long as the head.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def rich(self) -> Table:
        """For the terminal."""
        table = Table(title=self.title, title_justify="left")
        for number, name in enumerate(self.head):
            table.add_column(escape(name), justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def markdown(self) -> str:
        """For a page, without the title."""
        lines = ["| " + " | ".join(self.head) + " |", "|---|" + "---:|" * (len(self.head) - 1)]
        return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in self.rows])


def sheets(records: pd.DataFrame) -> Iterator[Sheet]:
    """All tables that the records fill: one per part, kind of lengths and metric, the summary last."""
    for (part, title), lengths, metric in product(
        _TITLES.items(), LENGTHS, (RATIO, SAME_KIND, BUSY, PADDED, SHARE, SCRIPT, EAGER, PEAK)
    ):
        numbers = pick(records, part=part, lengths=lengths, metric=metric)
        if len(numbers):
            yield _sheet(f"{title.format(lengths)}: {metric}", numbers)
    if (summary := summary_sheet(records)).rows:
        yield summary


def _sheet(title: str, records: pd.DataFrame) -> Sheet:
    shapes = records["shape"].unique()
    rows = []
    for name, its in records.assign(row=[_name(r) for r in records.itertuples()]).groupby("row", sort=False):
        cells = {r.shape: _cell(r) for r in its.itertuples()}
        mean = f"{geometric_mean(its['median']):.2f}" if len(cells) == len(shapes) else "–"
        rows.append((name, *(cells.get(shape, "–") for shape in shapes), mean))
    head = (title.rpartition(": ")[2], *(f"T,B,I,H = {shape}" for shape in shapes), "geometric mean")
    return Sheet(title, head, tuple(rows))


def _name(record: Record) -> str:
    """A row's name: contender and norm, ours by its norm and what ran."""
    if record.contender == OURS:
        return f"{record.norm} ({record.backend})"
    if record.contender == SCRIPTED or not record.norm:
        return record.contender
    return f"{record.norm}, {record.contender}"


def _cell(record: Record) -> str:
    """Median, quartiles if there are any, and the contender's own time."""
    text = f"{record.median:.2f}" if record.metric != PEAK else f"{record.median:.1f}"
    if record.rounds > 1:
        text += f" ({record.q1:.2f}–{record.q3:.2f})"
    if record.ms is None or math.isnan(record.ms) or record.metric in (SCRIPT, EAGER, SHARE):
        return text
    return f"{text}, {1e3 * record.ms:.0f} µs" if record.part == "streaming" else f"{text}, {record.ms:.3g} ms"


def summary_sheet(records: pd.DataFrame) -> Sheet:
    """Summary: one row per question, one column per norm; geometric means over the shapes, against the goal."""
    answers = summarize(records)
    norms = answers["norm"].unique()
    rows = []
    for goal in GOALS:
        marks = {a.norm: f"{a.value:.2f}{'' if a.met else ' ✗'}" for a in pick(answers, goal=goal.name).itertuples()}
        bound = f"{'≤' if goal.at_most else '≥'} {goal.bound:g}"
        if marks:
            rows.append((goal.name, bound, *(marks.get(norm, "–") for norm in norms)))
    title = "Summary: geometric means over the shapes; ✗ where the goal is missed"
    return Sheet(title, ("", "goal", *norms), tuple(rows))


def headline(record: Record) -> str:
    """One line about a cell while it is measured."""
    note = f", {record.contender}" if record.contender not in (OURS, REFERENCE) else ""
    return f"{record.metric} {_cell(record)}{note}"
