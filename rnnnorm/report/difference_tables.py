"""Tables of differences from the baseline: `differences.csv`, rows of Markdown, a table in the terminal."""

from __future__ import annotations

import csv
import io
import math

from rich import box
from rich.table import Table
from rich.text import Text

from rnnnorm.common.estimate import Estimate
from rnnnorm.report.colours import colour
from rnnnorm.report.differences import Difference
from rnnnorm.report.grid import Grid
from rnnnorm.report.inference import RESAMPLED_SEEDS
from rnnnorm.report.numbers import p_text, signed
from rnnnorm.report.summary import Summary

_INTERVALS = ("seedwise", "simultaneous", "sequences", "both", "improvement")

COLUMNS = ("norm", "difference", "95 % over seeds", "95 %, all norms", "p (Holm)", "P(better)", "ahead on",
           "95 % over sequences", "95 % over both")  # fmt: skip


def differences_csv(summary: Summary) -> str:
    """One line per norm and baseline: mean difference, intervals (`<kind>_low`, `<kind>_high`), p values.

    The last line has the best norm and the runner-up, if this is not one of the lines before.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    bounds = [f"{kind}_{end}" for kind in _INTERVALS for end in ("low", "high")]
    tests = ("p", "p_holm", "p_both", "family")
    writer.writerow(["norm", "baseline", "seeds", "difference", *bounds, *tests, "improvement", "ahead", "ended"])
    found = summary.differences
    pairs = {(one.norm, one.other) for one in found.others} | {(one.other, one.norm) for one in found.others}
    extra = [found.best] if found.best is not None and (found.best.norm, found.best.other) not in pairs else []
    for one in (*found.others, *extra):
        ends = [end for kind in _INTERVALS for end in _ends(getattr(one, kind))]
        values = [one.p, one.p_holm, one.p_both, one.family, one.improvement.mean, one.ahead, len(one.ended)]
        numbers = [one.seedwise.mean, *ends, *values]
        writer.writerow([one.norm, one.other, len(one.seeds), *map(_field, numbers)])
    return text.getvalue()


def lines(summary: Summary) -> list[list[str]]:
    """The fields of each norm, in the order of `COLUMNS`; all differences have the same decimals."""
    found = summary.differences
    return [_cells(one, found.digits) for one in found.others]


def _cells(one: Difference, digits: int) -> list[str]:
    chance = f"{one.improvement.mean:.2f}"
    if not math.isnan(one.improvement.low):
        chance += f" ({one.improvement.low:.2f} to {one.improvement.high:.2f})"
    return [
        one.norm,
        signed(one.seedwise.mean, digits),
        interval(one.seedwise, digits),
        interval(one.simultaneous, digits),
        p_text(one.p_holm),
        chance,
        f"{one.ahead:g} of {len(one.ended)}",
        interval(one.sequences, digits),
        interval(one.both, digits),
    ]


def interval(found: Estimate, digits: int) -> str:
    """An interval with so many decimals; `–` if there is none."""
    return "–" if math.isnan(found.low) else f"{signed(found.low, digits)} to {signed(found.high, digits)}"


def used(summary: Summary) -> list[int]:
    """Columns that have something in them."""
    rows = lines(summary)
    return [k for k in range(len(COLUMNS)) if k < 2 or any(row[k] != "–" for row in rows)]


def differences_markdown(summary: Summary) -> list[str]:
    """Lines of Markdown: the table and its notes; none if there is nothing to compare."""
    grid = differences_grid(summary)
    return [f"## Differences from {summary.differences.baseline}", "", *grid.markdown()] if grid.rows else []


def differences_grid(summary: Summary) -> Grid:
    """The table; without rows if there is nothing to compare."""
    shown = used(summary)
    rows = [[line[k] for k in shown] for line in lines(summary)]
    return Grid([COLUMNS[k] for k in shown], rows, notes=difference_notes(summary))


def terminal_differences(summary: Summary) -> Table | None:
    """The table for the terminal, without the intervals over test sequences; None if there is nothing to compare."""
    found = summary.differences
    if not found.others:
        return None
    title = f"differences from {found.baseline}: {summary.metric}, paired by seed, positive is better"
    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD)
    shown = [k for k in used(summary) if k < 7]
    for k in shown:
        table.add_column(COLUMNS[k], justify="right" if k else "left", no_wrap=k == 0)
    for line in lines(summary):
        norm, *fields = (line[k] for k in shown)
        table.add_row(Text.assemble(("● ", colour(norm)), norm), *fields)
    return table


def difference_notes(summary: Summary) -> list[str]:
    """Notes without which the differences would be misread."""
    found = summary.differences
    if not found.others:
        return []
    said = [
        f"Test {summary.metric}, norm against {found.baseline}, seed by seed over the seeds that both have; positive "
        "is better. Intervals over seeds are Student's t."
    ]
    if summary.asked != found.baseline:
        reason = (
            "has no test score" if summary.asked in [row.norm for row in summary.rows] else "is not among the norms"
        )
        said.append(f"{summary.asked} {reason}: compared is with {found.baseline}, the first of the preset table.")
    if found.seeds < 2:
        return [*said, "One seed has no interval: it cannot tell a difference from luck."]
    family = found.others[0].family
    what = "the comparisons with the baseline" + (" and that of the two best" if family > len(found.others) else "")
    if family == 1:
        said.append("p of the paired t test; with one comparison there is nothing to correct for.")
    else:
        said.append(
            f"p of the paired t test, corrected by Holm for {family} comparisons ({what}); '95 %, all norms' holds for "
            "all of them together (Bonferroni's t interval, ending at 0 where only Holm's test rejects)."
        )
    few = f"; its bootstrap interval takes {RESAMPLED_SEEDS} seeds" if found.seeds < RESAMPLED_SEEDS else ""
    said.append(f"P(better): the share of all pairs of runs in which the norm's is better, ties ½{few}.")
    if summary.units:
        said.append(
            f"Over sequences: the same networks on other draws of the {summary.units} (bootstrap, variance v). Over "
            "both: half widths √((t s/√n)² + (1.96 √v)²)."
        )
    elif summary.sampling:
        said.append(f"The sampling error of the test set is not known: {summary.sampling}.")
    lost = {row.norm: [run.seed for run in row.runs if run.status == "diverged" and run.seed in row.by_seed
                       and math.isnan(row.by_seed[run.seed])] for row in summary.rows}  # fmt: skip
    items = [f"{norm} on seed{'s' * (len(its) > 1)} {', '.join(map(str, its))}" for norm, its in lost.items() if its]
    if items:
        said.append(
            f"Diverged before it had a score: {'; '.join(items)}. The differences leave these seeds out, in favour of "
            "the norm that diverged; in P(better) such a run is worse than any other."
        )
    return said


def _ends(found: Estimate) -> tuple[float, float]:
    return found.low, found.high


def _field(value: float) -> object:
    return "" if isinstance(value, float) and not math.isfinite(value) else value
