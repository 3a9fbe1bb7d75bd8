"""`report.html` over several data sets: one self-contained page, linked to the reports of its folders."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from rnnnorm._version import __version__
from rnnnorm.report.colours import colour
from rnnnorm.report.grid import Grid
from rnnnorm.report.markup import environment, two_lines
from rnnnorm.report.several.figures import SeveralFigures
from rnnnorm.report.several.notes import findings


def render(out: Path, figures: SeveralFigures, scores: Grid, aggregates: Grid) -> str:
    """The page as HTML.

    Args:
        out: the folder it is written to; links are relative to it.
        figures: its figures, with what they are of.
        scores: table of scores.
        aggregates: table of aggregates.
    """
    several = figures.several
    templates = environment(Path(__file__).parent)
    templates.filters["two_lines"] = two_lines
    order = several.norms
    links = [Path(os.path.relpath(one.folder.resolve(), out.resolve()), "report.html") for one in several.sets]
    folders = " ".join(shlex.quote(str(one.folder)) for one in several.sets)
    return templates.get_template("several.html.j2").render(
        title=f"Norms on {len(several.sets)} data sets" if len(several.sets) > 1 else "Norms on one data set",
        subtitle=f"{len(order)} norm{'s' * (len(order) != 1)}, against {several.baseline}",
        sets=[
            {
                "label": one.label,
                "data": one.data,
                "link": quote(link.as_posix()),
                "task": one.summary.task.replace("-", " "),
                "runs": f"{sum(run.status in ('finished', 'diverged') for run in one.summary.runs)} of "
                f"{len(one.summary.runs)} runs ended",
            }
            for one, link in zip(several.sets, links, strict=True)
        ],
        baseline=several.baseline,
        findings=[sentence for sentence in findings(several, figures.found, figures.ranks) if sentence],
        norms=[(k, norm, colour(norm)) for k, norm in enumerate(order)],
        tables=[(scores, _rows(scores, order)), (aggregates, _rows(aggregates, order))],
        wide={name: Markup(svg) for name, svg in figures.all().items()},
        narrow={name: Markup(svg) for name, svg in figures.all(360).items()},
        command=f"rnnnorm report {folders} --baseline {shlex.quote(several.baseline)} --out {shlex.quote(str(out))}",
        version=__version__,
    )


def _rows(grid: Grid, order: list[str]) -> list[tuple[int, str, list[tuple[str, bool]]]]:
    """Rows of a table: the norm's class, its colour, fields and whether each is in bold."""
    return [
        (order.index(row[0]), colour(row[0]), [(text, (i, j) in grid.strong) for j, text in enumerate(row)])
        for i, row in enumerate(grid.rows)
    ]
