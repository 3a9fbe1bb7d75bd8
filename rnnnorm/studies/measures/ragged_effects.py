"""Effects of raggedness: which scores are compared with which, under which conditions, and from when they count."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from rnnnorm.report.canvas import Theme
from rnnnorm.studies.data.ragged_arms import BASE, FRAMED, LENGTHS
from rnnnorm.studies.framework.contrast import Contrast
from rnnnorm.studies.framework.plots import rule
from rnnnorm.studies.framework.selection import Point, beginning, leading
from rnnnorm.studies.measures.ragged_tables import PLAIN, RECALIBRATION, cures

framed_first, base_first = leading(FRAMED), leading(BASE)
telling = beginning(but=LENGTHS[1:])  # data that do not only differ in lengths
unframed = beginning(but=(*LENGTHS[1:], FRAMED))


def late_if_any(found: Sequence[str]) -> list[str]:
    """Late steps where there are any, else all of them."""
    return ["late" if "late" in found else "all"]


def least(point: Point) -> float:
    """The smallest effect that counts; the score of JSB is a loss, in nats."""
    return 0.02 if point["region"] == "late" and point["data"] != "JSB" else 0.01


scores = partial(Contrast, unit="difference of scores", by=("batches", "data", "mode", "region"), needed=least)
recalibrated = partial(
    scores, "score", norms=cures, against={"norm": BASE, "mode": "population", "way": RECALIBRATION}, turned=True,
    by=("data", "region", "way"), label="{data}, {region}: recalibration against {way}",
)  # fmt: skip


def cured(option: str) -> Contrast:
    """What the base wins at late steps by an option."""
    only = {"mode": "running", "region": "late"}
    return scores("score", norms=beginning(BASE, having=option), against=BASE, only=only, label="{data}{batches}")


def wider(more: str, less: str, region: str = "all", needed: float = 0.01) -> Contrast:
    """What the gap gains from one distribution of lengths to a more ragged one."""
    return Contrast(
        "gap_by_lengths", "difference of gaps", base_first,
        {"data": less}, (), {"data": more, "region": region, **PLAIN}, needed,
        label=f"{{norm}}, {more} against {less}, {'late steps' if region == 'late' else 'overall'}",
    )  # fmt: skip


def mark_late(axes: Axes, theme: Theme, rows: pd.DataFrame) -> None:
    """A line where late steps begin."""
    if rows["start"].notna().any():
        rule(axes, theme, x=float(rows["start"].mean()), text="t*")
