"""Overview of a comparison in TensorBoard, its run `comparison`: verdict, text, layout of charts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.tensorboard.summary import text as text_card

from rnnnorm.board.means import layout, stale, write_means
from rnnnorm.board.verdict import verdict
from rnnnorm.engine.records import events
from rnnnorm.report.canvas import settings
from rnnnorm.report.curves import read_curves
from rnnnorm.report.difference_tables import differences_markdown
from rnnnorm.report.figures import Figures
from rnnnorm.report.runs import find_runs, read_data
from rnnnorm.report.sampling import sampled
from rnnnorm.report.sentences import findings
from rnnnorm.report.summary import Summary, summarize
from rnnnorm.report.tables import summary_grid

RUN = "comparison"
VERDICT = "comparison/which norm is best"

READING = """\
**How to read this.** *Time Series*: runs are coloured by norm; `<norm>/mean` is the mean over the norm's seeds. Pinned
on top are the verdict and the mean curves; the groups `val`, `train` and `test` below show every seed, `test/…` as one
point at a run's last step, measured on its best checkpoint. *Custom Scalars*: the means with bands from the smallest to
the largest seed. *HParams*: a row per run; its first metric is the one by which norms are ranked. A difference is shown
where the thin interval, which holds for all norms together, does not reach the line at 0; its dot is then filled.
"""


def refresh(out: Path) -> None:
    """Write the overview of a comparison, and the means of every norm of which something has ended since.

    Args:
        out: the folder of the comparison.

    Raises:
        ValueError: as `rnnnorm.report.runs.find_runs`, or its runs are measured by different metrics.
        OSError: it cannot be written.
    """
    summary = sampled(summarize(runs := find_runs(out), str(read_data(out).get("baseline") or "none")))
    if not summary.metric:
        return
    for norm in sorted({run.folder.parent for run in runs}):
        if stale(norm):
            write_means(norm)
    stored = any(run.number("statistics") > 0 for run in runs)
    last = max(int(run.number("steps")) for run in runs if run.facts)
    with events(out / RUN, RUN, purge_step=0) as writer:
        writer.add_custom_scalars(layout(summary.metric, stored))
        card: Any = text_card(RUN, text(out, summary))  # type: ignore[no-untyped-call]
        card.value[0].tag = RUN  # `add_text` would call it comparison/text_summary
        file: Any = writer
        file._get_file_writer().add_summary(card, last)
        with settings():
            writer.add_figure(VERDICT, verdict(summary), last, close=False)


def text(out: Path, summary: Summary) -> str:
    """The findings, the tables of norms and differences, and how to read all that, as Markdown."""
    curves = {row.norm: [read_curves(run.folder) for run in row.uncut or row.runs] for row in summary.rows}
    said = [f"- {sentence}" for sentence in findings(Figures(summary, curves))]
    report = f"The report, with more figures: `{out / 'report.html'}`"
    parts = (said, summary_grid(summary).markdown(), [READING, report], differences_markdown(summary))
    return "\n\n".join("\n".join(part) for part in parts)
