"""The figure of the study of raggedness."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from rnnnorm.report.canvas import Theme
from rnnnorm.report.colours import colour
from rnnnorm.studies.framework.measurements import per_seed, where
from rnnnorm.studies.framework.plots import Panel, linear_axis, lines, log_axis, points, rule
from rnnnorm.studies.measures.ragged_scores import BASE, FRAMED, LENGTHS, OWN, WITHOUT, cures, gap, home, score, spoken

FURTHER = ("#2d6779", "#b04db1", "#4e6dea", "#48bc90")
"""Colours of lines that are not norms."""


def panels(m: pd.DataFrame) -> Sequence[Panel]:
    """Score by step, statistics' error by step, gap by raggedness, cures and padding at late steps."""
    data = home(m)
    plain = where(m, padding="no")
    usual = where(plain, data=data, batches="similar")

    def by_step(axes: Axes, theme: Theme) -> None:
        rows = where(usual, quantity="bucket", norm=[WITHOUT, "ln", BASE])
        rows = rows[(rows["norm"] == BASE) | (rows["mode"] == "running")]
        rows = rows[rows["mode"] != "at rest"].assign(line="")
        names = {"running": "running averages", "population": "population statistics", "batch": "the batch's own"}
        pairs = zip(rows["norm"], rows["mode"], strict=True)
        rows["line"] = [norm if norm != BASE else f"{norm}, {names[mode]}" for norm, mode in pairs]
        rows["t"] = (rows["t"] + rows["last"]) / 2
        styles = {f"{BASE}, {names['population']}": "--", f"{BASE}, {names['batch']}": ":"}
        lines(axes, rows, "t", "line", styles=styles, colours=_base_colours(rows["line"]))
        _mark_late(axes, theme, m, data)
        log_axis(axes, "x", numbers=_steps(rows["t"]))
        linear_axis(axes)

    def off(axes: Axes, theme: Theme) -> None:
        rows = where(plain, quantity="off_by", norm=BASE)
        kept = [
            ({"data": FRAMED, "batches": "similar", "mode": "running"}, "first symbol constant, running"),
            ({"data": data, "batches": "similar", "mode": "running"}, f"{BASE}, running averages"),
            ({"data": data, "batches": "similar", "mode": "population"}, f"{BASE}, population statistics"),
            ({"data": data, "batches": "mixed", "mode": "running"}, "mixed batches, running"),
            ({"data": "fixed", "batches": "similar", "mode": "running"}, "fixed lengths, running"),
        ]
        found = [where(rows, **conditions).assign(line=name) for conditions, name in kept]
        chosen = pd.concat(found) if found else rows.assign(line="")
        chosen = chosen[chosen["value"] > 0].assign(t=chosen["t"] + 1)
        free = (name for name in FURTHER)
        shades = {name: next(free) for _, name in kept if not name.startswith(BASE)} | _base_colours(chosen["line"])
        lines(axes, chosen, "t", "line", colours=shades, styles={f"{BASE}, population statistics": "--"}, marker=None)
        log_axis(axes)
        log_axis(axes, "x", numbers=_steps(chosen["t"]))

    def gaps(axes: Axes, theme: Theme) -> None:
        order = [name for name in (*reversed(LENGTHS), FRAMED, OWN) if name in set(usual_names(m))]
        rows = where(plain, quantity="gap", batches="similar", region="all", data=order)
        compared = rows[(rows["value"] != 0) & (rows["data"] != FRAMED)]
        norms = [n for n in dict.fromkeys(compared["norm"]) if len(order) == 1 or len(gap(m, n, "uniform"))]
        for number, norm in enumerate(norms):
            shift = 0.12 * (number - (len(norms) - 1) / 2)
            for k, name in enumerate(order):
                values = gap(m, norm, name)
                label = norm if name == next(n for n in order if len(gap(m, norm, n))) else None
                if len(values):
                    paint = colour(norm)
                    axes.plot([k + shift] * len(values), values, "o", color=paint, markersize=3.5, alpha=0.5)
                    axes.plot([k + shift] * 2, [0, values.mean()], "-", color=paint, linewidth=1.2, alpha=0.6)
                    axes.plot([k + shift], [values.mean()], "o", color=paint, markersize=8, label=label)
        axes.set_xticks(range(len(order)), [_short(name) for name in order])
        axes.set_xlim(-0.6, len(order) - 0.4)
        rule(axes, theme, y=0.0)
        linear_axis(axes)

    def cured(axes: Axes, theme: Theme) -> None:
        region = "late" if len(score(m, BASE, region="late", data=data)) else "all"
        batches = "mixed" if "mixed" in set(m["batches"]) else "similar"
        groups = {norm: score(m, norm, region=region, data=data) for norm in (WITHOUT, BASE)}
        groups |= {_variant(norm): score(m, norm, region=region, data=data) for norm in cures(m, data)}
        groups["recalibrated"] = score(m, BASE, "population", region, data=data)
        if batches == "mixed":
            groups["mixed batches"] = score(m, BASE, region=region, data=data, batches=batches)
        for padding in ("frozen", "running"):
            name = f"{batches} batches, padding {padding}"
            groups[name] = score(m, BASE, region=region, data=data, batches=batches, padding=padding)
        shown = [(name, list(series)) for name, series in groups.items() if len(series)]
        shades = {name: colour(name if name in (WITHOUT, "bn-window", "brn") else BASE) for name, _ in shown}
        points(axes, shown, theme, colours=shades)
        linear_axis(axes, "x")

    what = "cures and padding" + (", steps from t* on" if "late_start" in set(m["quantity"]) else "")
    return [
        Panel(
            f"score, {spoken(data)}",
            "timestep t",
            by_step,
            "Scores by timestep: normalization per step loses at late steps.",
        ),
        Panel(
            "stored moments are off by (standard deviations of a normalized value)",
            "timestep, counted from 1",
            off,
            "Error of stored statistics by timestep.",
        ),
        Panel(
            "gap: score by the batch's own statistics minus by running averages",
            "lengths",
            gaps,
            "The gap by distribution of lengths.",
        ),
        Panel(what, "score by running averages", cured, "Cures, and padding counted, at late steps."),
    ]


def usual_names(m: pd.DataFrame) -> list[str]:
    """The data that were measured."""
    return list(dict.fromkeys(m["data"])) if "data" in m else []


def _base_colours(names: pd.Series) -> dict[str, str]:
    return {name: colour(BASE) for name in set(names) if name.startswith(BASE)}


def _mark_late(axes: Axes, theme: Theme, m: pd.DataFrame, data: str) -> None:
    start = per_seed(m, quantity="late_start", data=data)
    if len(start):
        rule(axes, theme, x=float(start.mean()), text="t*")


def _steps(t: pd.Series) -> list[float]:
    """Round numbers within the range, for a logarithmic axis."""
    if not len(t):
        return [1]
    return [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if t.min() <= n <= t.max()] or [float(t.min())]


def _short(data: str) -> str:
    return {FRAMED: "heavy-tailed,\nfirst symbol constant", OWN: "your data"}.get(data, data)


def _variant(norm: str) -> str:
    """A short name of a cure."""
    name = norm.removeprefix(BASE + ":")
    return name if name != norm else norm.partition(":")[0]
