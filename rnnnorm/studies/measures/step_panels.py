"""The figure of the study of step statistics."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from rnnnorm.report.canvas import Theme
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.plots import Panel, lines, rule
from rnnnorm.studies.measures.step_contrasts import DATA, PLACES, against, extra

SHADES = ("#d77810", "#4e6dea", "#a8453f", "#2d6779")
COLOURS = {
    "reset, population": "#a8453f",
    "reset, running": "#d77810",
    "carried, population": "#2d6779",
    "carried, running": "#4e6dea",
}
STYLES = {name: "--" if "running" in name else "-" for name in COLOURS}
NAMES = {name: f"{name} statistics" for name in COLOURS}
TRANSIENT_COLOURS = {
    "hidden, reset": "#a8453f",
    "cell, reset": "#d77810",
    "hidden, carried": "#2d6779",
    "cell, carried": "#4e6dea",
}
TRANSIENT_STYLES = {name: "--" if "cell" in name else "-" for name in TRANSIENT_COLOURS}
TRANSIENT_NAMES = {name: ", ".join((PLACES[name.split(", ")[0]], name.split(", ")[1])) for name in TRANSIENT_COLOURS}


def panels(m: pd.DataFrame) -> list[Panel]:
    """The transient; what sharing costs along time, by window, and under each condition."""
    first = m["data"].iloc[0] if "data" in m and len(m) else ""
    main = where(m, data=first)

    def transient(axes: Axes, theme: Theme) -> None:
        rows = where(main, quantity="distance", cell="yes", norm="bn-timestep", place=["hidden", "cell"]).copy()
        rows = rows[rows["gain"] == rows["gain"].min()] if len(rows) else rows
        rows["norm"] = [f"{p}, {s}" for p, s in zip(rows["place"], rows["state"], strict=True)]
        lines(axes, rows, "t", colours=TRANSIENT_COLOURS, styles=TRANSIENT_STYLES, names=TRANSIENT_NAMES, marker=None)
        rule(axes, theme, y=0.0, text="")

    def along(axes: Axes, theme: Theme) -> None:
        rows = against(where(main, quantity="loss_at", cell="yes"), ["state", "gain", "mode", "seed", "t"])
        rows = where(rows, norm="bn-shared")
        rows["norm"] = [f"{s}, {k}" for s, k in zip(rows["state"], rows["mode"], strict=True)]
        lines(axes, rows, "t", colours=COLOURS, styles=STYLES, names=NAMES, marker=None, band=False)
        rule(axes, theme, y=0.0, text="")

    def online(axes: Axes, theme: Theme) -> None:
        rows = where(main, quantity="loss", mode="population", state="reset", read="carried").copy()
        order = [norm for norm in dict.fromkeys(rows["norm"]) if norm.startswith("bn-")]
        rows = rows[rows["norm"].isin(order)]
        rows["x"] = [order.index(norm) for norm in rows["norm"]]
        has = {"yes": "cell norm", "no": "no cell norm"}
        rows["norm"] = [f"{has[c]}, gain {g:g}" for c, g in zip(rows["cell"], rows["gain"], strict=True)]
        shades = dict(zip(rows["norm"].unique(), SHADES, strict=False))
        styles = {name: "--" if name.startswith("no") else "-" for name in shades}
        lines(axes, rows, "x", colours=shades, styles=styles)
        axes.set_xticks(range(len(order)), order)
        axes.set_ylim(bottom=0)

    def conditions(axes: Axes, theme: Theme) -> None:
        found = [(here, values) for here, values in extra(m) if here["mode"] == "population"]
        rows = [(state, cell) for state in ("carried", "reset") for cell in ("no", "yes")]
        series = list(dict.fromkeys((here["data"], here["gain"]) for here, _ in found))
        rule(axes, theme, x=0.0)
        for here, values in found:
            number = series.index((here["data"], here["gain"]))
            place = rows.index((here["state"], here["cell"])) + 0.16 * ((len(series) - 1) / 2 - number)
            paint = SHADES[number % len(SHADES)]
            data = [DATA[here["data"]]] if here["data"] in DATA else []
            axes.plot(values, [place] * len(values), "o", color=paint, markersize=4, alpha=0.5, linestyle="none")
            label = ", ".join([*data, f"gain {here['gain']:g}"])
            mean = sum(values) / len(values)
            axes.plot([mean], [place], "o", color=paint, markersize=9, linestyle="none", label=label)
        for y, (state, cell) in enumerate(rows):
            axes.annotate(
                f"{state} state, {'cell norm' if cell == 'yes' else 'no cell norm'}",
                (1, y),
                xycoords=("axes fraction", "data"),
                xytext=(0, 14),
                textcoords="offset points",
                ha="right",
                fontsize=10,
                color=theme.ink,
            )
        axes.set_yticks([])
        axes.set_ylim(-0.5, len(rows) - 0.3)
        axes.grid(axis="x", color=theme.grid, linewidth=1)

    return [
        Panel(
            "distance of a step's statistics from the pooled ones, in σ",
            "timestep t",
            transient,
            "With a reset state statistics pass through a transient, with a carried one there is none.",
        ),
        Panel(
            "extra loss of shared statistics, nats",
            "timestep t",
            along,
            "Loss under shared minus loss under per-step statistics along the segment; cell normalized.",
        ),
        Panel(
            "loss, nats: trained on reset, evaluated on carried states",
            "statistics",
            online,
            "Per-step statistics of reset states where the state is carried on.",
        ),
        Panel(
            "every seed (small) and their mean (large)",
            "extra loss of shared population statistics, nats per step",
            conditions,
            "Loss under shared minus loss under per-step statistics, by condition.",
        ),
    ]
