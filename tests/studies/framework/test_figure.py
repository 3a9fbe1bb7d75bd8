"""Declared plots: which lines, where, and when there is none."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from studies.tables import drawn as bare

from rnnnorm.report.canvas import LIGHT
from rnnnorm.studies.framework import Lines, Points, first
from rnnnorm.studies.framework.compose import entries
from rnnnorm.studies.framework.figure import Plot
from rnnnorm.studies.framework.plots import Panel

WORDS = {"data": {"made": "made data"}, "batch": "B = {}"}


def table() -> pd.DataFrame:
    rows = [
        {"data": data, "layers": layers, "norm": norm, "seed": seed, "quantity": "loss", "value": layers + seed + 0.5}
        for data in ("made", "real")
        for layers in (1, 2, 4)
        for norm in ("none", "ln")
        for seed in (0, 2)
    ]
    return pd.DataFrame(rows)


def panels(plot: Plot, m: pd.DataFrame | None = None) -> list[Panel]:
    return list(plot.panels(table() if m is None else m, WORDS))


def drawn(panel: Panel) -> Axes:
    axes = Figure().add_subplot()
    panel.onto(axes, LIGHT)
    return axes


def lines(**keys: Any) -> Lines:
    return Lines("loss", "loss (nats), {data}", "layers", "Loss against depth.", **{"x": "layers", **keys})


def rows(axes: Axes) -> list[str]:
    """Names of the rows, from top to bottom."""
    return [label.get_text() for label in axes.get_yticklabels()][::-1]


def named(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    return {
        str(line.get_label()): [*zip(*line.get_data(), strict=True)]  # type: ignore[misc]
        for line in axes.get_lines()
        if not str(line.get_label()).startswith("_")
    }


def test_each_value_has_a_plot_and_each_norm_a_line() -> None:
    made, real = panels(lines(each=("data",)))
    assert (made.title, real.title, made.x) == ("loss (nats), made data", "loss (nats), real", "layers")
    means = [(1, 2.5), (2, 3.5), (4, 5.5)]
    assert named(drawn(made)) == {"none": means, "ln": means}


def test_only_what_is_chosen_is_drawn() -> None:
    (panel,) = panels(lines(only={"data": first, "norm": "ln", "layers": (1, 4)}, line="{norm} on {data}"))
    assert named(drawn(panel)) == {"ln on made data": [(1, 2.5), (4, 5.5)]}


def test_without_values_there_is_no_plot() -> None:
    assert panels(lines(), table().iloc[:0]) == []
    assert panels(lines(only={"norm": "wn"})) == []
    assert panels(lines(), table().assign(value=math.inf)) == []
    assert panels(lines(), table().drop(columns="quantity")) == []


def test_what_is_not_finite_or_too_small_is_left_out() -> None:
    m = table()
    m.loc[(m["layers"] == 2) & (m["seed"] == 0), "value"] = math.nan
    m.loc[(m["layers"] == 4) & (m["seed"] == 0), "value"] = -1.0
    only = {"data": first, "norm": "ln"}
    assert named(drawn(panels(lines(only=only), m)[0])) == {"ln": [(1, 2.5), (2, 4.5), (4, 2.75)]}
    assert named(drawn(panels(lines(only=only, log="y"), m)[0])) == {"ln": [(1, 2.5), (2, 4.5), (4, 6.5)]}
    assert named(drawn(panels(lines(only=only, above=6.0), m)[0])) == {"ln": [(4, 6.5)]}


@pytest.mark.parametrize(
    "colours", [("#111111", "#222222"), {"none": "#111111", "ln": "#222222"}, lambda names: {names[0]: "#111111"}]
)
def test_colours(colours: Any) -> None:
    axes = drawn(panels(lines(each=("data",), colours=colours))[0])
    none, ln = (line for line in axes.get_lines() if line.get_label() in ("none", "ln"))
    assert none.get_color() == "#111111"
    assert ln.get_color() == ("#222222" if not callable(colours) else "#48bc90")


def test_scales_ticks_rules_and_formulas() -> None:
    more: list[int] = []
    plot = lines(
        only={"data": first}, log="xy", base=2, rule=3.0, text="here", curve=lambda x: x**2, formula="square",
        limits=(1.0, 20.0), y_ticks=(1, 10), styles={"ln": ":"}, also=lambda axes, theme, m: more.append(len(m)),
    )  # fmt: skip
    axes = drawn(panels(plot)[0])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xticks().tolist() == [1, 2, 4]
    assert axes.get_yticks().tolist() == [1, 10]
    assert axes.get_ylim() == (1.0, 20.0)
    assert named(axes)["square"] == [(1, 1), (2, 4), (4, 16)]
    assert "here" in named(axes)
    assert next(line for line in axes.get_lines() if line.get_label() == "ln").get_linestyle() == ":"
    assert more == [12]


def test_an_axis_may_be_linear_near_zero() -> None:
    axes = drawn(panels(lines(only={"data": first}, linear_up_to=0.02, y_ticks=(0, 0.1, 1)))[0])
    assert axes.get_yscale() == "symlog"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "0.1", "1"]


def test_fractions_have_round_ticks_and_whole_numbers_their_own() -> None:
    m = table()
    assert drawn(panels(lines(only={"data": first}), m)[0]).get_xticks().tolist() == [1, 2, 4]
    m["layers"] = m["layers"] / 3
    assert drawn(panels(lines(only={"data": first}), m)[0]).get_xticks().tolist() != [1 / 3, 2 / 3, 4 / 3]


def test_points_have_a_row_per_line() -> None:
    plot = Points("loss", "after training, {data}", "nats", "Losses.", only={"data": first}, line="{norm}, {layers}")
    (panel,) = panels(plot)
    assert (panel.title, panel.x) == ("after training, made data", "nats")
    axes = drawn(panel)
    assert rows(axes) == [f"{n}, {k}" for k in (1, 2, 4) for n in ("none", "ln")]


M = pd.DataFrame(
    [
        {"norm": norm, "batch": size, "seed": seed, "quantity": "loss", "value": 10 * k + size + 0.1 * seed}
        for (k, norm), size, seed in product(enumerate(("ln", "wn")), (1, 8), (0, 1))
        if (norm, size) != ("ln", 8)
    ]
)


def means(axes: Axes) -> dict[tuple[str, float], float]:
    """Label and row of the large dots, and where they stand."""
    found = {}
    for line in axes.lines:
        if line.get_markersize() == 9:
            (x,), (y,) = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
            found[str(line.get_label()), round(float(y), 2)] = float(x)
    return found


def test_points_have_a_row_for_each_line() -> None:
    axes = bare(panels(Points("loss", "t", "x", "a", only={"batch": 1}), M)[0])
    assert rows(axes) == ["ln", "wn"]
    assert {row: x for (_, row), x in means(axes).items()} == pytest.approx({1.0: 1.05, 0.0: 11.05})
    assert entries([axes]) == []


def test_series_stand_side_by_side_in_each_row() -> None:
    plot = Points("loss", "t", "x", "a", series="{batch}", colours={"B = 1": "#111111", "B = 8": "#222222"})
    axes = bare(panels(plot, M)[0])
    assert rows(axes) == ["ln", "wn"]
    assert means(axes) == {
        ("B = 1", 1.08): pytest.approx(1.05),
        ("B = 1", 0.08): pytest.approx(11.05),
        ("B = 8", -0.08): pytest.approx(18.05),
    }
    assert [(entry.label, entry.colour) for entry in entries([axes])] == [("B = 1", "#111111"), ("B = 8", "#222222")]
    small = [np.asarray(line.get_xdata()) for line in axes.lines if line.get_markersize() == 4]
    assert sorted(np.concatenate(small).tolist()) == pytest.approx(sorted(M["value"]))


def test_a_rule_may_stand_at_the_median_of_a_quantity() -> None:
    m = pd.concat([M, pd.DataFrame({"quantity": "chance", "seed": [0, 1, 2], "value": [1.0, 4.0, 2.0]})])
    for quantity, expected in (("chance", ["guess"]), ("nothing", [])):
        (panel,) = Lines("loss", "t", "x", "a", x="batch", rule=quantity, text="guess").panels(m, {})
        axes = bare(panel)
        assert [entry.label for entry in entries([axes]) if entry.label != "ln" and entry.label != "wn"] == expected
        rules = [np.asarray(line.get_ydata()).tolist() for line in axes.lines if line.get_linewidth() == 1]
        assert rules == [[2.0, 2.0]] * len(expected)
