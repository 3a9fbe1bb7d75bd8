"""The figure of the study of the train/inference gap."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from rnnnorm.report.canvas import Theme
from rnnnorm.studies.framework.measurements import values, where
from rnnnorm.studies.framework.plots import Panel, linear_axis, lines, log_axis, rule

TASKS = {
    "language": "made-up language",
    "order": "temporal order",
    "shakespeare": "Tiny Shakespeare",
    "own": "own data",
}
SHADES = {"language": "#d77810", "order": "#4e6dea", "shakespeare": "#a8453f", "own": "#d77810"}
NORMS = ("bn-timestep", "bn-shared", "bn-vertical", "brn")


def excess(rows: pd.DataFrame, mode: str, over: str, on: Sequence[str]) -> pd.DataFrame:
    """Loss in one mode minus that in another, for the same seed and the same values in `on`."""
    keys = ["task", "norm", "seed", *on]
    if rows.empty or not {*keys} <= {*rows}:
        return pd.DataFrame(columns=[*keys, "value"])
    both = [where(rows, mode=m).set_index(keys)["value"] for m in (mode, over)]
    return (both[0] - both[1]).dropna().rename("value").reset_index()


def panels(m: pd.DataFrame) -> list[Panel]:
    """Gap against momentum, gap during training, excess against batch size, gap against t."""
    losses = where(m, quantity="loss")
    full = where(losses, rows=where(losses, mode="population")["rows"].max())

    def momentum(axes: Axes, theme: Theme) -> None:
        swept = where(full, base="bn-timestep")
        rows = excess(swept, "running", "population", ["momentum"] if "momentum" in swept else [])
        if "momentum" in rows and len(rows):
            moving, plain = rows[rows["momentum"] > 0], rows[rows["momentum"] == 0]
            lines(axes, moving, "momentum", by="task", colours=SHADES, styles=dict.fromkeys(SHADES, "-"), names=TASKS)
            for task in values(plain, "task"):
                mean = where(plain, task=task)["value"].mean()
                axes.axhline(
                    mean,
                    color=SHADES.get(task, "#656d76"),
                    linestyle="--",
                    linewidth=1.4,
                    label=f"{TASKS.get(task, task)}, plain average",
                )
        rule(axes, theme, y=0.0, text="population statistics")
        log_axis(axes, "x", numbers=[0.01, 0.03, 0.1, 0.3])
        linear_axis(axes)

    def training(axes: Axes, theme: Theme) -> None:
        rows = _plain(where(m, quantity="val_gap"))
        rows = rows[rows["task"] == _first(rows)] if len(rows) else rows
        rule(axes, theme, y=0.0)
        lines(axes, rows, "progress")
        linear_axis(axes)
        linear_axis(axes, "x")

    def sizes(axes: Axes, theme: Theme) -> None:
        batch = where(losses, norm="bn-timestep", mode=["batch", "own"])
        keys = ["task", "norm", "seed"]
        if len(batch):
            best = where(full, norm="bn-timestep", mode="population").set_index(keys)["value"].rename("best")
            rows = batch[~((batch["mode"] == "batch") & (batch["rows"] == 1))].join(best, on=keys)
            rows = rows.assign(value=rows["value"] - rows["best"])
            lines(axes, rows, "rows", by="task", colours=SHADES, styles=dict.fromkeys(SHADES, "-"), names=TASKS)
        rule(axes, theme, y=0.0, text="population statistics, any batch size")
        log_axis(axes, "x", base=2, numbers=values(batch, "rows") or [1])
        axes.set_yscale("symlog", linthresh=0.02)
        axes.set_yticks([0, 0.01, 0.1, 1.0], ["0", "0.01", "0.1", "1"])
        axes.minorticks_off()

    def along(axes: Axes, theme: Theme) -> None:
        rows = _plain(where(m, quantity="loss_at"))
        rows = excess(rows[rows["task"] == _first(rows)] if len(rows) else rows, "running", "training", ["t"])
        rule(axes, theme, y=0.0)
        lines(axes, rows, "t")
        linear_axis(axes)
        linear_axis(axes, "x", integer=True)

    name = TASKS.get(_first(where(m, quantity="loss_at")), "")
    return [
        Panel(
            "bits lost by running averages, bn-timestep",
            "momentum: weight of the newest batch",
            momentum,
            "Loss under running averages minus that under population statistics, by momentum.",
        ),
        Panel(
            f"{name}: validation gap, bits",
            "share of training",
            training,
            "Validation loss under running averages minus that under the moments of the batch, during training.",
        ),
        Panel(
            "bits lost by the test batch's own moments",
            "sequences in the test batch",
            sizes,
            "Loss under the moments of the test batch minus that under population statistics, bn-timestep; at 1 the "
            "variance is 0.",
        ),
        Panel(
            f"{name}: running averages minus training, bits",
            "timestep t",
            along,
            "The gap between evaluation and training on the same sequences along time.",
        ),
    ]


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of batch-normalized networks at their default momentum, under short names."""
    if rows.empty:
        return rows
    short = rows["norm"].where(~rows["norm"].str.startswith("brn"), "brn")
    rows = rows.assign(norm=short)
    return rows[rows["norm"].isin(NORMS)]


def _first(rows: pd.DataFrame) -> str:
    """The task that the panels about one task show."""
    present = rows["task"].unique().tolist() if len(rows) else []
    return next((task for task in TASKS if task in present), "")
