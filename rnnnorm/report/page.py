"""`report.html`: one self-contained page."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rnnnorm._version import __version__
from rnnnorm.norms.presets import find_preset
from rnnnorm.report.colours import colour
from rnnnorm.report.difference_tables import COLUMNS, difference_notes, lines, used
from rnnnorm.report.figures import Figures
from rnnnorm.report.forest import forest_svg
from rnnnorm.report.hyperparameters import hyperparameters
from rnnnorm.report.markup import environment, two_lines
from rnnnorm.report.panels import EARLY
from rnnnorm.report.runs import read_data
from rnnnorm.report.sentences import findings
from rnnnorm.report.summary import Row, Summary
from rnnnorm.report.tables import diverged_at, notes
from rnnnorm.report.tuning_section import tuning_section

_SPELLED = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def render(out: Path, figures: Figures) -> str:
    """The page for the runs in `out`, as HTML.

    Args:
        out: the folder of the comparison; `compare.yaml` and `data.json` in it are shown if they exist.
        figures: its table and curves, and the surface on which all panels are drawn.
    """
    summary = figures.summary
    data = read_data(out)
    config = out / "compare.yaml"
    task = summary.task or data.get("task", "")
    templates = environment()
    templates.filters["two_lines"] = two_lines
    return templates.get_template("page.html.j2").render(
        title=f"Normalizing an LSTM{': ' + task.replace('-', ' ') if task else ''}",
        subtitle=_subtitle(summary, data),
        facts=[*_facts(summary, data), *hyperparameters(out)],
        findings=findings(figures),
        summary=summary,
        metric=figures.metric,
        rows=[_row(summary, row) for row in summary.rows],
        notes=notes(summary),
        times=summary.times,
        baseline=summary.differences.baseline,
        turned="" if summary.larger_is_better else ", with its sign turned so that positive is better",
        differences=_differences(summary),
        difference_columns=[COLUMNS[k] for k in used(summary)],
        difference_notes=difference_notes(summary),
        forest_svg=Markup(forest_svg(summary, surface=figures.surface) or ""),
        forest_narrow_svg=Markup(forest_svg(summary, 360, figures.surface) or ""),
        norms=[(k, norm, colour(norm)) for k, norm in enumerate(figures.order)],
        summary_svg=Markup(figures.summary_svg()),
        scores_svg=Markup(figures.scores_svg()),
        curve_svgs=[Markup(svg) for svg in figures.curve_svgs()],
        train_svgs=[(row.norm, colour(row.norm), Markup(svg)) for row, svg in figures.train_svgs()],
        modes_svgs=[
            (row.norm, colour(row.norm), row.batch_statistics, Markup(svg)) for row, svg in figures.modes_svgs()
        ],
        bucket_svgs=[Markup(svg) for svg in figures.bucket_svgs()],
        early=EARLY,
        bucket_score=figures.bucket_score(),
        command=_command(out, summary, config.exists()),
        config=config.read_text(encoding="utf-8") if config.exists() else "",
        tensorboard=f"rnnnorm tensorboard {shlex.quote(str(out))}",
        panels=f"rnnnorm report {shlex.quote(str(out))} --figures pdf",
        version=__version__,
        **tuning_section(out, summary, figures.surface),
    )


def _row(summary: Summary, row: Row) -> dict[str, Any]:
    """A norm's line of the table."""
    preset, overrides = find_preset(row.norm)
    about = preset.description if preset else ""
    if overrides:
        about = f"{about + ', ' if about else ''}with {overrides.replace(':', ', ')}"
    return {
        "norm": row.norm,
        "k": summary.rows.index(row),
        "colour": colour(row.norm),
        "about": about,
        "source": preset.source if preset else "",
        "row": row,
        "scores": summary.scores(row),
        "seconds": summary.seconds(row),
        "n": len(row.headline.values),
        "diverged": row.counts["diverged"],
        "diverged_at": diverged_at(row.runs),
        "cut": row.counts["cut"],
        "open": row.counts["unfinished"] + row.counts["unreadable"],
        "parameters": f"{row.mean('parameters'):,.0f}" if math.isfinite(row.mean("parameters")) else "–",
    }


def _differences(summary: Summary) -> list[tuple[int, str, bool, list[str]]]:
    """Lines of the table of differences: the norm's class, its colour, whether a difference is shown, the fields."""
    order, shown = [row.norm for row in summary.rows], used(summary)
    return [
        (order.index(one.norm), colour(one.norm), one.differs, [line[k] for k in shown])
        for one, line in zip(summary.differences.others, lines(summary), strict=True)
    ]


def _subtitle(summary: Summary, data: dict[str, Any]) -> str:
    norms, seeds = len(summary.rows), len({run.seed for run in summary.runs})
    what = f"{_spell(norms)} norm{'s' * (norms != 1)}, {_spell(seeds)} seed{'s' * (seeds != 1)}"
    name = str(data.get("data", "")).rpartition(".")[2]
    return f"{what[0].upper()}{what[1:]}{', on ' + name if name else ''}"


def _spell(count: int) -> str:
    return _SPELLED[count] if count < len(_SPELLED) else str(count)


def _facts(summary: Summary, data: dict[str, Any]) -> list[tuple[str, str]]:
    """What was run on what, as label and value."""
    facts = []
    if summary.task:
        facts.append(("task", summary.task.replace("-", " ")))
    if data.get("data"):
        facts.append(("data", str(data["data"]).rpartition(".")[2]))
    sizes = {split: its.get("count") for split in ("train", "val", "test")
             if isinstance(its := data.get(f"{split}_lengths"), dict)}  # fmt: skip
    if all(isinstance(size, int) for size in sizes.values()) and sizes:
        facts.append(("examples", ", ".join(f"{size:,} {split}" for split, size in sizes.items())))
    for split in ("train", "test"):
        lengths = data.get(f"{split}_lengths")
        if isinstance(lengths, dict) and {"min", "median", "p95", "max"} <= lengths.keys():
            low, median, p95, high = (f"{lengths[key]:g}" for key in ("min", "median", "p95", "max"))
            facts.append((f"{split} lengths", f"{low}–{high} steps, median {median}, 95 % up to {p95}"))
    ended = sum(run.status in ("finished", "diverged") for run in summary.runs)
    cut = sum(run.status == "cut" for run in summary.runs)
    facts.append(("runs", f"{ended} of {len(summary.runs)} ended" + (f", {cut} cut" if cut else "")))
    seconds = sum(s for run in summary.runs if math.isfinite(s := run.number("seconds")))
    if seconds:
        facts.append(("training time", f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"))
    if isinstance(sources := data.get("sources"), list) and sources:
        facts.append(("source", ", then ".join(_short(str(one)) for one in sources)))
    facts += [("note", str(note)) for note in data.get("notes", ())]
    return facts


def _short(source: str) -> str:
    """A commit by its first twelve digits."""
    head, changes, rest = source.partition(" + ")
    return (head if " " in head else f"commit {head[:12]}") + changes + rest


def _command(out: Path, summary: Summary, config: bool) -> str:
    norms = ",".join(sorted(row.norm for row in summary.rows))
    numbers = sorted({run.seed for run in summary.runs})
    counted = numbers == list(range(len(numbers)))
    seeds = str(len(numbers)) if counted else ",".join(str(seed) for seed in numbers)
    given = f"-c {shlex.quote(str(out / 'compare.yaml'))} " if config else ""
    again = shlex.quote(f"{out}-again")
    return f"rnnnorm compare {given}--norms {shlex.quote(norms)} --seeds {shlex.quote(seeds)} --out {again}"
