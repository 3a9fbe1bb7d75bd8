"""All files of a report, written into a folder of runs."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from rich.table import Table

from rnnnorm.common.atomic import replacing, write_text
from rnnnorm.report.canvas import LIGHT, settings
from rnnnorm.report.curves import Curve, read_curves
from rnnnorm.report.figures import Figures
from rnnnorm.report.page import render
from rnnnorm.report.runs import find_runs
from rnnnorm.report.summary import summarize
from rnnnorm.report.tables import results_csv, summary_markdown, terminal_table
from rnnnorm.report.tuning_section import tuning_markdown
from rnnnorm.report.tuning_words import how_chosen


def build(out: Path | str) -> Path:
    """Write `results.csv`, `summary.md`, `figure.png`, `figure.svg` and `report.html` into a folder of runs.

    Runs that are unfinished, have diverged or cannot be read are reported as such; what is missing is left out.

    Args:
        out: the folder that `rnnnorm compare` wrote, with one folder `<norm>/seed=<k>/` per run.

    Returns:
        The path of `report.html`.

    Raises:
        ValueError: `out` is no folder or holds no run, or its runs were measured by different metrics.
    """
    out = Path(out)
    summary = summarize(find_runs(out))
    curves: dict[str, list[dict[str, Curve]]] = {
        row.norm: [read_curves(run.folder) for run in row.uncut or row.runs] for row in summary.rows
    }
    figures = Figures(summary, curves)
    write_text(out / "results.csv", results_csv(summary))
    write_text(out / "summary.md", summary_markdown(summary) + tuning_markdown(out, summary))
    with settings():
        picture = figures.summary_figure(LIGHT)
        with replacing(out / "figure.png") as png:
            picture.savefig(png, format="png", dpi=144, facecolor=LIGHT.paper, metadata={"Software": None})
        # Outlines instead of text: an image has no fonts of the page around it.
        with matplotlib.rc_context({"svg.fonttype": "path"}), replacing(out / "figure.svg") as svg:
            picture.savefig(svg, format="svg", facecolor=LIGHT.paper, metadata={"Date": None})
    page = out / "report.html"
    write_text(page, render(out, figures))
    return page


def summary_table(out: Path | str) -> Table:
    """The table of norms for the terminal, best first: the same rows as in `summary.md`.

    Raises:
        ValueError: as `build`.
    """
    table = terminal_table(summarize(find_runs(Path(out))))
    table.title = how_chosen(Path(out)) or None
    return table
