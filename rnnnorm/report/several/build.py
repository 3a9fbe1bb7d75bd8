"""All files of a report over several data sets, written into a folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from rnnnorm.common.atomic import write_text
from rnnnorm.report.build import build
from rnnnorm.report.colours import colour
from rnnnorm.report.grid import Grid
from rnnnorm.report.latex import booktabs
from rnnnorm.report.several.aggregate import aggregate, thresholds
from rnnnorm.report.several.figures import SeveralFigures
from rnnnorm.report.several.folders import read_several
from rnnnorm.report.several.page import render
from rnnnorm.report.several.ranks import rank
from rnnnorm.report.several.tables import aggregates_csv, aggregates_grid, profile_csv, scores_csv, scores_grid
from rnnnorm.report.surface import Files, LinkedPage


def build_several(
    folders: Sequence[Path | str], out: Path | str, baseline: str | None = None, formats: Sequence[str] = ()
) -> Path:
    """Write the report over several comparisons, each of another data set or configuration.

    Tables: `scores` and `aggregates`, as `.csv` and as `.tex` for booktabs, both in `summary.md`, and `profile.csv`. A
    folder that has no `report.html` yet gets its own.

    Args:
        folders: outputs of `rnnnorm compare`.
        out: where the report goes.
        baseline: the norm that the others are compared with; None: the one that all folders name, or else `none`.
        formats: of the files `figures/<figure>.<format>`, beside `svg`: `pdf`.

    Returns:
        The path of `report.html`.

    Raises:
        ValueError: as `read_several`; or `out` is one of the folders or holds runs itself, or a format is unknown.
    """
    out = Path(out)
    if out.resolve() in [Path(folder).resolve() for folder in folders] or any(out.glob("*/seed=*")):
        raise ValueError(f"--out {out} is the folder of a comparison; expected a folder of its own for the report")
    files = Files(out / "figures", formats)
    several = read_several(folders, baseline)
    found, skipped = aggregate(several)
    ranks = rank(several)
    scores, aggregates = scores_grid(several), aggregates_grid(several, found, ranks, skipped)
    for one in several.sets:
        if not (one.folder / "report.html").exists():
            build(one.folder)
    write_text(out / "scores.csv", scores_csv(several))
    write_text(out / "scores.tex", booktabs(scores))
    write_text(out / "aggregates.csv", aggregates_csv(several, found, ranks))
    write_text(out / "aggregates.tex", booktabs(aggregates))
    write_text(out / "profile.csv", profile_csv(found, thresholds()))
    lines = ["# Scores by data set", "", *scores.markdown(), "# All data sets", "", *aggregates.markdown()]
    write_text(out / "summary.md", "\n".join(lines))
    SeveralFigures(several, found, ranks, files).all()
    page = out / "report.html"
    write_text(page, render(out, SeveralFigures(several, found, ranks, LinkedPage(files)), scores, aggregates))
    return page


def overview_several(folders: Sequence[Path | str], baseline: str | None = None) -> Group:
    """What the terminal shows: the table of scores and that of aggregates.

    Raises:
        ValueError: as `read_several`.
    """
    several = read_several(folders, baseline)
    found, skipped = aggregate(several)
    return Group(_terminal(scores_grid(several)), _terminal(aggregates_grid(several, found, rank(several), skipped)))


def _terminal(grid: Grid) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for k, title in enumerate(grid.head):
        table.add_column(title.replace(" (", "\n("), justify="right" if k else "left", no_wrap=k == 0)
    for i, (norm, *fields) in enumerate(grid.rows):
        cells = [
            Text(text.replace(" (", "\n("), style="bold" if (i, j) in grid.strong else "")
            for j, text in enumerate(fields, 1)
        ]
        table.add_row(Text.assemble(("● ", colour(norm)), norm), *cells)
    return table
