"""All files of a report, written into a folder of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
from rich.console import Group

from rnnnorm.common.atomic import replacing, write_text
from rnnnorm.report.canvas import LIGHT, settings
from rnnnorm.report.curves import Curve, read_curves
from rnnnorm.report.difference_tables import differences_csv, differences_grid, terminal_differences
from rnnnorm.report.figures import Figures
from rnnnorm.report.forest import forest_svg
from rnnnorm.report.latex import booktabs
from rnnnorm.report.page import render
from rnnnorm.report.runs import find_runs, read_data
from rnnnorm.report.sampling import sampled
from rnnnorm.report.summary import Summary, summarize
from rnnnorm.report.surface import Files, LinkedPage, Surface
from rnnnorm.report.tables import results_csv, summary_csv, summary_grid, summary_markdown, terminal_table
from rnnnorm.report.tuning import read_tuning
from rnnnorm.report.tuning_figures import page_figures
from rnnnorm.report.tuning_section import scores_of, tuning_markdown
from rnnnorm.report.tuning_words import how_chosen


def build(out: Path | str, baseline: str | None = None, formats: Sequence[str] = ()) -> Path:
    """Write tables, figures and `report.html` into a folder of runs.

    Tables: `results.csv` (runs), `summary.csv` (norms) and `differences.csv` (norms against the baseline), the last two
    also as `.tex` for booktabs, all in `summary.md`; figures: `figure.png`, `figure.svg`, and each panel of the page in
    `figures`. Runs that are unfinished, have diverged or cannot be read are reported as such; what is missing is left
    out.

    Args:
        out: the folder that `rnnnorm compare` wrote, with one folder `<norm>/seed=<k>/` per run.
        baseline: the norm that the others are compared with; None: the one that `data.json` names, or else `none`.
        formats: of the files `figures/<panel>.<format>`, one for each panel of the page, beside `svg`: `pdf`.

    Returns:
        The path of `report.html`.

    Raises:
        ValueError: `out` is no folder or holds no run, its runs were measured by different metrics, no run is of the
            given baseline, or a format is unknown.
    """
    out = Path(out)
    files = Files(out / "figures", formats)
    summary = sampled(_summary(out, baseline))
    curves: dict[str, list[dict[str, Curve]]] = {
        row.norm: [read_curves(run.folder) for run in row.uncut or row.runs] for row in summary.rows
    }
    figures = Figures(summary, curves)
    write_text(out / "results.csv", results_csv(summary))
    write_text(out / "summary.csv", summary_csv(summary))
    write_text(out / "summary.tex", booktabs(summary_grid(summary)))
    write_text(out / "differences.csv", differences_csv(summary))
    write_text(out / "differences.tex", booktabs(differences_grid(summary)))
    write_text(out / "summary.md", summary_markdown(summary) + tuning_markdown(out, summary))
    with settings():
        picture = figures.summary_figure(LIGHT)
        with replacing(out / "figure.png") as png:
            picture.savefig(png, format="png", dpi=144, facecolor=LIGHT.paper, metadata={"Software": None})
        # Outlines instead of text: an image has no fonts of the page around it.
        with matplotlib.rc_context({"svg.fonttype": "path"}), replacing(out / "figure.svg") as svg:
            picture.savefig(svg, format="svg", facecolor=LIGHT.paper, metadata={"Date": None})
    _panels(out, replace(figures, surface=files), files)
    page = out / "report.html"
    write_text(page, render(out, replace(figures, surface=LinkedPage(files))))
    return page


def overview(out: Path | str, baseline: str | None = None) -> Group:
    """What the terminal shows of a folder of runs: the table of norms, and that of differences from the baseline.

    Raises:
        ValueError: as `build`.
    """
    summary = _summary(Path(out), baseline)
    table = terminal_table(summary)
    table.title = how_chosen(Path(out)) or None
    return Group(*filter(None, (table, terminal_differences(summary))))


def _panels(out: Path, figures: Figures, surface: Surface) -> None:
    """Every panel of the page as files."""
    summary = figures.summary
    with settings():
        surface.put(figures.summary_figure(surface.theme), "overview", "")
    figures.scores_svg()
    figures.curve_svgs()
    figures.modes_svgs()
    figures.train_svgs()
    figures.bucket_svgs()
    forest_svg(summary, surface=surface)
    tuning = read_tuning(out)
    order = [row.norm for row in summary.rows]
    if tuning is not None and any(norm in order for norm in tuning.norms):
        page_figures(tuning, order, scores_of(summary)[1], surface)


def _summary(out: Path, baseline: str | None) -> Summary:
    runs = find_runs(out)
    norms = {run.norm for run in runs}
    if baseline is not None and baseline not in norms:
        raise ValueError(f"--baseline {baseline}: {out} has no runs of it; there are: {', '.join(sorted(norms))}")
    return summarize(runs, baseline or str(read_data(out).get("baseline") or "none"))
