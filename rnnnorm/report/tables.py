"""Tables of a comparison: `results.csv`, Markdown, and a table in the terminal."""

from __future__ import annotations

import csv
import io
import math

from rich import box
from rich.table import Table
from rich.text import Text

from rnnnorm.report.colours import colour
from rnnnorm.report.difference_tables import differences_markdown
from rnnnorm.report.endings import early, scoreless, unequal_steps
from rnnnorm.report.grid import Grid
from rnnnorm.report.numbers import number, some
from rnnnorm.report.runs import HEADLINE, MODES, RunResult
from rnnnorm.report.summary import Row, Summary

_COLUMNS = ("train_loss", "best_val", "best_step", "diverged_at", "steps", "epochs", "ended_by", "seconds",
            "cpu_seconds", "jobs", "parameters", "statistics")  # fmt: skip


def results_csv(summary: Summary) -> str:
    """One line per run: norm, seed, status, every test metric as `test_<mode>_<metric>`, and what the run cost.

    What a run does not have (it is unfinished, or a number was not finite) is an empty field.
    """
    runs = sorted(summary.runs, key=lambda run: (run.norm, run.seed))
    tests = sorted(
        {(mode, metric) for run in runs for mode, scores in run.test.items() for metric in scores},
        key=lambda test: (MODES.index(test[0]) if test[0] in MODES else len(MODES), test),
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["norm", "seed", "status", *(f"test_{mode}_{metric}" for mode, metric in tests), *_COLUMNS])
    for run in runs:
        scores = [_field(run.test.get(mode, {}).get(metric)) for mode, metric in tests]
        writer.writerow([run.norm, run.seed, run.status, *scores, *(_field(run.facts.get(key)) for key in _COLUMNS)])
    return text.getvalue()


def summary_markdown(summary: Summary) -> str:
    """The table of norms as Markdown, best first, with notes on what it leaves out."""
    return "\n".join(["# Comparison", "", *summary_grid(summary).markdown(), *differences_markdown(summary)])


def summary_grid(summary: Summary) -> Grid:
    """The table of norms, best first."""
    return Grid(_header(summary), [_cells(row, summary) for row in summary.rows], notes=notes(summary))


def summary_csv(summary: Summary) -> str:
    """One line per norm, best first: `<mode>_mean` and `<mode>_std` of the test metric, numbers of runs, mean costs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    statuses, costs = ("finished", "diverged", "cut", "unfinished", "unreadable"), ("seconds", "parameters")
    scores = [f"{mode}_{part}" for mode in MODES for part in ("mean", "std")]
    writer.writerow(["norm", "metric", "better", "ranked_by", "n", *scores, *statuses, *costs])
    better = "larger" if summary.larger_is_better else "smaller"
    for row in summary.rows:
        numbers = [part for mode in MODES for part in (row.scores[mode].mean, row.scores[mode].std)]
        fields = [
            *map(_field, numbers),
            *(row.counts[status] for status in statuses),
            *(_field(row.mean(c)) for c in costs),
        ]
        head = [row.norm, summary.metric, better, row.headline_mode, len(row.headline.values)]
        writer.writerow([*head, *fields])
    return text.getvalue()


def terminal_table(summary: Summary) -> Table:
    """The table of norms for the terminal, best first, each norm in its colour."""
    table = Table(box=box.SIMPLE_HEAD, caption="\n".join(notes(summary)), caption_justify="left")
    for k, title in enumerate(_header(summary)):
        table.add_column(title, justify="right" if k else "left", no_wrap=k == 0)
    for row in summary.rows:
        norm, *cells = _cells(row, summary)
        table.add_row(Text.assemble(("● ", colour(norm)), norm), *cells)
    return table


def notes(summary: Summary) -> list[str]:
    """Notes without which the table would be misread."""
    said = []
    if summary.metric:
        better = "larger" if summary.larger_is_better else "smaller"
        said.append(
            f"Test {summary.metric} ({better} is better) of the best checkpoint, mean ± standard deviation over n "
            "seeds, best first by population statistics."
        )
        if summary.modes:
            said.append(
                "Running, population and batch: the same checkpoint by each of these statistics; a norm that stores "
                "none has one score."
            )
        own = [row.norm for row in summary.ranked if row.batch_statistics and row.headline_mode == "running"]
        if own:
            said.append(f"Ranked by running averages, which their training reads, too: {', '.join(own)}.")
    if any(row.counts["diverged"] for row in summary.rows):
        said.append("A diverged run counts with its best checkpoint from before, if it had one.")
    said += [text.replace("`", "") for text in (scoreless(summary), unequal_steps(summary), early(summary)) if text]
    if summary.times.doubt:
        said.append(f"Training times are not compared: {summary.times.doubt}.".replace("`", ""))
    elif summary.times.ratios:
        kind = "CPU" if summary.times.cpu else "wall"
        said.append(f"Seconds are wall time of training; steps are compared by {kind} time, seed by seed (range).")
    cut = [_cut(run, summary) for row in summary.rows for run in row.runs if run.status == "cut"]
    if cut:
        said.append(
            f"{len(cut)} of {len(summary.runs)} runs cut by the time limit, neither ranked nor averaged: "
            f"{some(cut, '; ')}."
        )
    said += [run.problem for run in summary.runs if run.problem]
    unfinished = [run.name for run in summary.runs if run.status == "unfinished"]
    if unfinished:
        said.append(f"Unfinished: {some(unfinished, ', ')}.")
    return said


def _cut(run: RunResult, summary: Summary) -> str:
    """How far a run got that was cut, and its score there."""
    own = str(run.facts.get("evaluates_by"))
    modes = [mode for mode in (own, *HEADLINE) if math.isfinite(run.score(mode, summary.metric))]
    score = f", {summary.metric} {number(run.test[modes[0]][summary.metric])}" if modes else ""
    return f"{run.name} at step {run.number('steps'):.0f}{score}"


def diverged_at(runs: tuple[RunResult, ...]) -> str:
    """The steps at which runs diverged, `310, 420`; empty if none did."""
    steps = sorted(run.number("diverged_at") for run in runs if run.status == "diverged")
    return ", ".join(f"{step:.0f}" for step in steps if math.isfinite(step))


def _header(summary: Summary) -> list[str]:
    metric = summary.metric or "score"
    titles = ["norm", metric, *summary.modes, "n", "diverged", "seconds"]
    if summary.times.ratios:
        titles.append(f"step vs {summary.times.baseline}")
    return [*titles, "parameters"]


def _cells(row: Row, summary: Summary) -> list[str]:
    diverged = str(row.counts["diverged"])
    if row.counts["diverged"]:
        diverged = f"{diverged} of {len(row.runs)} (step {diverged_at(row.runs) or 'unknown'})"
    parameters = row.mean("parameters")
    return [
        row.norm,
        *summary.scores(row),
        f"{len(row.headline.values)}" + (f" + {row.counts['cut']} cut" if row.counts["cut"] else ""),
        diverged,
        summary.seconds(row),
        *([str(summary.times.ratios.get(row.norm, "–"))] if summary.times.ratios else []),
        f"{parameters:,.0f}" if math.isfinite(parameters) else "–",
    ]


def _field(value: object) -> object:
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
