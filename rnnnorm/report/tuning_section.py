"""Section of a report on tuning: what `tuning.html.j2` shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rnnnorm.report.colours import colour
from rnnnorm.report.summary import Summary
from rnnnorm.report.surface import PAGE, Surface
from rnnnorm.report.tuning import Scores, read_tuning
from rnnnorm.report.tuning_figures import page_figures
from rnnnorm.report.tuning_words import choices_table, how_chosen, markdown, said


def scores_of(summary: Summary) -> tuple[Scores, Scores]:
    """Norm → best validation scores of its runs, and → their test scores, by the statistics that it is ranked by."""
    found = {row.norm: [run.number("best_val") for run in row.uncut] for row in summary.rows}
    validated = {norm: tuple(filter(math.isfinite, values)) for norm, values in found.items()}
    return validated, {row.norm: row.headline.values for row in summary.rows}


def tuning_section(out: Path, summary: Summary, surface: Surface = PAGE) -> dict[str, Any]:
    """What a page shows of the search in a folder: `how_chosen`, and `tuning`, None where there was no search.

    Args:
        out: the folder of the comparison.
        summary: its table, which gives the norms their order.
        surface: where figures are drawn.
    """
    tuning, order = read_tuning(out), [row.norm for row in summary.rows]
    shown: Mapping[str, Any] | None = None
    if tuning is not None and any(norm in order for norm in tuning.norms):
        validated, tests = scores_of(summary)
        large, small = page_figures(tuning, order, tests, surface)
        header, rows = choices_table(tuning, validated, tests)
        shown = {
            "title": f"{tuning.what[0].upper()}{tuning.what[1:]} of each norm",
            "metric": tuning.metric,
            "rounds": tuning.rounds,
            "seeds": ", ".join(map(str, tuning.seeds)),
            "ranges": ", ".join(f"`{key}={entry['range']}`" for key, entry in tuning.space.items()),
            "said": said(tuning, validated),
            "halving": tuning.halving,
            "joined": len(tuning.space) == 1,
            "header": header,
            "rows": [(order.index(row[0]) if row[0] in order else -1, colour(row[0]), row) for row in rows],
            "large": [Markup(svg) for svg in large],
            "small": [(name, [(norm, paint, Markup(svg)) for norm, paint, svg in its]) for name, _, its in small],
        }
    return {"how_chosen": how_chosen(out), "tuning": shown}


def tuning_markdown(out: Path, summary: Summary) -> str:
    """The same as Markdown, to follow the table of scores."""
    return markdown(out, *scores_of(summary))
