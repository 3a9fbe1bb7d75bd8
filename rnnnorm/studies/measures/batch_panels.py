"""The figure of the study of batch sizes, and which of its trainings count."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes

from rnnnorm.report.canvas import Theme
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.plots import Panel, lines, log_axis, rule
from rnnnorm.studies.measures.batch_noise import gaussian_noise

STYLES = {"cmbn": "--"}  # of nearly the colour of gn
MODE_COLOURS = {
    "population statistics": "#d77810",
    "running statistics": "#4e6dea",
    "batch statistics": "#2d6779",
}
MODE_STYLES = {"running statistics": "--", "batch statistics": ":"}


def best(m: pd.DataFrame) -> pd.DataFrame:
    """The rows of the learning rate with the lowest mean validation loss, of each norm and batch size."""
    validation = where(m, quantity="val_loss")
    if validation.empty or "learning_rate" not in m:
        return m.iloc[:0]
    means = validation.groupby(["norm", "batch", "learning_rate"], as_index=False)["value"].mean()
    winners = means.sort_values("value", kind="stable").drop_duplicates(["norm", "batch"])
    return m.merge(winners[["norm", "batch", "learning_rate"]], on=["norm", "batch", "learning_rate"])


def sizes_of(m: pd.DataFrame, column: str = "batch") -> list[int]:
    """The whole numbers in a column, in order."""
    return sorted({int(size) for size in m[column].dropna()}) if column in m else []


def panels(m: pd.DataFrame) -> list[Panel]:
    """Loss by batch size, the difference from LN, the noise of σ̂, the three evaluations."""
    chosen = best(m)
    losses = where(chosen, quantity="loss")
    of_norm = losses[losses["value"].map(math.isfinite)] if len(losses) else losses
    tested = where(chosen, quantity="test_loss")
    tested = tested[tested["value"].map(math.isfinite)] if len(tested) else tested
    sizes = sizes_of(losses)

    def by_size(axes: Axes, theme: Theme) -> None:
        lines(axes, tested, "batch", styles=STYLES)
        log_axis(axes, "x", base=2, numbers=sizes)
        log_axis(axes)

    def against(axes: Axes, theme: Theme) -> None:
        base = where(tested, norm="ln")
        if len(base):
            both = tested.merge(base[["batch", "seed", "value"]], on=["batch", "seed"], suffixes=("", "_ln"))
            both["value"] -= both["value_ln"]
            lines(axes, both[both["norm"] != "ln"], "batch", styles=STYLES)
        axes.set_yscale("symlog", linthresh=0.02)
        ticks = [-1, -0.1, -0.02, 0, 0.02, 0.1, 1]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        rule(axes, theme, y=0.0, text="as good as ln")
        log_axis(axes, "x", base=2, numbers=sizes)

    def spread(axes: Axes, theme: Theme) -> None:
        rows = where(m, quantity="noise").copy()
        rows["norm"] = "measured"
        lines(axes, rows, "size", colours={"measured": "#2d6779"})
        places = sorted({float(s) for s in rows["size"] if s > 1}) if len(rows) else []
        axes.plot(places, [gaussian_noise(s) for s in places], "--", color=theme.muted, label="1/√(2(B-1))")
        log_axis(axes, "x", base=2, numbers=sizes)
        log_axis(axes, numbers=[0.05, 0.1, 0.2, 0.5, 1.0])

    def modes(axes: Axes, theme: Theme) -> None:
        rows = where(of_norm, norm="bn-timestep").copy()
        rows["norm"] = [f"{mode} statistics" for mode in rows["mode"]]
        lines(axes, rows, "batch", colours=MODE_COLOURS, styles=MODE_STYLES)
        log_axis(axes, "x", base=2, numbers=sizes)
        log_axis(axes)

    return [
        Panel("test loss, nats per prediction", "batch size B", by_size, "Test loss at equally many sequences."),
        Panel("test loss minus that of ln, nats", "batch size B", against, "Where norms cross layer normalization."),
        Panel("relative standard deviation of a batch's σ̂", "batch size B", spread, "The noise, and the formula."),
        Panel(
            "test loss of bn-timestep, nats",
            "training batch size B",
            modes,
            "Three evaluations of the same weights.",
        ),
    ]
