"""Declared plots and the finding of divergence, on small tables."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnnnorm.report.canvas import LIGHT
from rnnnorm.studies.framework import Lines, Points
from rnnnorm.studies.framework.plots import entries
from rnnnorm.studies.framework.sentence import divergence

M = pd.DataFrame(
    [
        {"norm": norm, "batch": size, "seed": seed, "quantity": "loss", "value": 10 * k + size + 0.1 * seed}
        for (k, norm), size, seed in product(enumerate(("ln", "wn")), (1, 8), (0, 1))
        if (norm, size) != ("ln", 8)
    ]
)


def drawn(points: Points) -> Axes:
    (panel,) = points.panels(M, {"batch": "B = {}"})
    axes = Figure().subplots()
    panel.draw(axes, LIGHT)
    return axes


def means(axes: Axes) -> dict[tuple[str, float], float]:
    """Label and row of the large dots, and where they stand."""
    found = {}
    for line in axes.lines:
        if line.get_markersize() == 9:
            (x,), (y,) = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
            found[str(line.get_label()), round(float(y), 2)] = float(x)
    return found


def test_points_have_a_row_for_each_line() -> None:
    axes = drawn(Points("loss", "t", "x", "a", only={"batch": 1}))
    assert [text.get_text() for text in axes.texts] == ["ln", "wn"]
    assert {row: x for (_, row), x in means(axes).items()} == pytest.approx({1.0: 1.05, 0.0: 11.05})
    assert entries([axes]) == []


def test_series_stand_side_by_side_in_each_row() -> None:
    axes = drawn(Points("loss", "t", "x", "a", series="{batch}", colours={"B = 1": "#111111", "B = 8": "#222222"}))
    assert [text.get_text() for text in axes.texts] == ["ln", "wn"]
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
        axes = Figure().subplots()
        panel.draw(axes, LIGHT)
        assert [text.get_text() for text in axes.texts] == expected
        rules = [np.asarray(line.get_ydata()).tolist() for line in axes.lines if line.get_linewidth() == 1]
        assert rules == [[2.0, 2.0]] * len(expected)


def test_divergence_is_told_with_how_it_counts() -> None:
    m = pd.DataFrame({"norm": ["ln", "wn", "wn"], "seed": 0, "quantity": "diverged", "value": [0.0, 1.0, 1.0]})
    assert [*divergence(m)] == ["2 of 3 trainings diverged: wn (2)."]
    assert [*divergence(m, "count as guessing")] == ["2 of 3 trainings diverged and count as guessing: wn (2)."]
    told = divergence(m.assign(cell="lstm"), by="{cell}, {norm}", words={"cell": {"lstm": "LSTM"}})
    assert [*told] == ["2 of 3 trainings diverged: LSTM, wn (2)."]
    assert [*divergence(m[m["norm"] == "ln"], "count as guessing")] == []
