"""Panels: lines over seeds, legends, axes, figures."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rnnnorm.report.canvas import LIGHT, Theme
from rnnnorm.report.colours import colour
from rnnnorm.studies.framework.compose import entries, inline_panels, save_figure, shared
from rnnnorm.studies.framework.plots import Panel, broken, linear_axis, lines, log_axis, points, rule

NORMS = ("none", "ln", "bn-timestep:gain=1.0")


@pytest.fixture
def axes() -> Axes:
    return Figure().add_subplot()


def table(**changes: float) -> pd.DataFrame:
    rows = [
        {"norm": norm, "seed": seed, "t": t, "value": 10.0**t * (1 + seed) * changes.get(norm, 1.0)}
        for norm in NORMS
        for t in (2, 0, 1)
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def drawing(m: pd.DataFrame, by: str = "norm") -> Panel:
    def draw(axes: Axes, theme: Theme) -> None:
        lines(axes, m, "t", by)

    return Panel("value & <unit>", "t", draw, "Values against t.")


def test_a_line_is_the_mean_over_seeds_in_the_colour_of_its_norm(axes: Axes) -> None:
    lines(axes, table(), "t")
    found = {str(line.get_label()): line for line in axes.lines}
    assert set(found) == set(NORMS)
    for norm, line in found.items():
        assert np.asarray(line.get_xdata()).tolist() == [0, 1, 2]
        assert np.asarray(line.get_ydata()).tolist() == pytest.approx([2, 20, 200])
        assert line.get_color() == colour(norm)
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.ymin, band.ymax) == pytest.approx((1, 300))


def test_lines_can_be_told_apart_by_something_else(axes: Axes) -> None:
    m = table()
    m["what"] = m["norm"] + np.where(m["norm"] == "ln", ", a", ", b")
    lines(axes, m[m["norm"] != "none"], "t", "what", colours={"ln, a": "#123456"})
    assert [line.get_label() for line in axes.lines] == ["ln, a", "bn-timestep:gain=1.0, b"]
    assert [line.get_color() for line in axes.lines] == ["#123456", colour("bn-timestep:gain=1.0")]


def test_one_seed_has_no_band(axes: Axes) -> None:
    m = table()
    lines(axes, m[m["seed"] == 0], "t")
    assert len(axes.collections) == 0


def test_nothing_to_draw_is_an_empty_plot(axes: Axes) -> None:
    lines(axes, table().iloc[:0], "t")
    points(axes, [("ln", [])], LIGHT)
    assert [line for line in axes.lines if len(np.asarray(line.get_xdata()))] == []


def test_points_leave_out_what_is_not_finite(axes: Axes) -> None:
    points(axes, [("none", [1.0, 3.0]), ("ln", [math.inf, 5.0, math.nan])], LIGHT)
    drawn = [(np.asarray(line.get_xdata()).tolist(), list(line.get_ydata())) for line in axes.lines]
    assert drawn == [([1.0, 3.0], [1, 1]), ([2.0], [1]), ([5.0], [0]), ([5.0], [0])]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ln", "none"]


def test_long_names_are_broken_at_commas_and_colons() -> None:
    assert broken("bn-timestep") == "bn-timestep"
    assert broken("brn:momentum=0.1:warmup=50:r_end=250") == "brn:momentum=0.1:warmup=50:\nr_end=250"
    assert broken("bn-timestep, padding frozen, mixed batches") == "bn-timestep, padding frozen,\nmixed batches"


@pytest.mark.parametrize("which", ["x", "y"])
@pytest.mark.parametrize(
    ("values", "numbers"),
    [([1.0, 1e9], None), ([3.0, 400.0], [3, 8, 400]), ([200.0, 800.0], None), ([], None), ([1, 1], None)],
)
def test_logarithmic_axes_have_few_short_ticks(
    axes: Axes, which: str, values: list[float], numbers: list[float] | None
) -> None:
    axes.plot(values, values)
    log_axis(axes, which, numbers=numbers)
    figure = axes.figure
    assert isinstance(figure, Figure)
    axis = axes.xaxis if which == "x" else axes.yaxis
    assert axis.get_scale() == "log"
    FigureCanvasAgg(figure).draw()
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    shown = [tick.label1.get_text() for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert len(shown) <= 10
    assert all(len(text) <= 6 for text in shown)
    if numbers:
        assert shown == ["3", "8", "400"]
    if values == [200.0, 800.0]:
        assert shown == ["200", "500"]
    if values == [1.0, 1e9]:
        assert all(re.fullmatch(r"1e-?\d+", text) for text in shown if text)


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (1e-5, 0.01, ["1e−5", "1e−4", "1e−3", "1e−2"]),
        (1e-60, 1e30, ["1e−60", "1e−40", "1e−20", "1e0", "1e20"]),
        (0.5, 1e28, ["1e0", "1e5", "1e10", "1e15", "1e20", "1e25"]),
    ],
)
def test_decades_stand_at_round_exponents(axes: Axes, low: float, high: float, shown: list[str]) -> None:
    axes.set_xlim(low, high)
    log_axis(axes, "x")
    assert [axes.xaxis.get_major_formatter()(tick) for tick in axes.get_xticks()] == shown


def test_where_lines_coincide_both_are_seen(axes: Axes) -> None:
    m = table()
    m["line"] = m["norm"]
    lines(axes, m, "t", styles={"none": "--", "ln": "-"})
    order = {str(line.get_label()): line.get_zorder() for line in axes.lines}
    assert order["none"] > order["ln"]


def test_powers_of_two_are_written_as_fractions() -> None:
    axes = Figure().add_subplot()
    axes.plot([2.0**-9, 2.0**5], [1, 1])
    log_axis(axes, "x", base=2, numbers=[2.0**-9, 0.25, 1, 32])
    assert [axes.xaxis.get_major_formatter()(v) for v in (2.0**-9, 0.25, 1, 32)] == ["1/512", "1/4", "1", "32"]


def test_linear_axes_have_few_short_ticks(axes: Axes) -> None:
    axes.plot([0, 1234567], [0, 1])
    linear_axis(axes, "x", integer=True)
    assert len(axes.get_xticks()) <= 8


def test_rules_say_what_they_mean(axes: Axes) -> None:
    rule(axes, LIGHT, y=1.0, text="nothing changes")
    rule(axes, LIGHT, x=3.0, text="T_max")
    assert [(entry.label, entry.style) for entry in entries([axes])] == [("nothing changes", "--"), ("T_max", ":")]
    assert len(axes.texts) == 0


def test_a_legend_has_each_label_once(axes: Axes) -> None:
    axes.plot([0, 1], color="#112233", linestyle="--", marker="s", label="a")
    axes.plot([0, 2], color="#445566", label="a")
    axes.bar([0], [1], color="#778899", label="b")
    axes.errorbar([0], [1], [1], color="#aabbcc", label="c")
    axes.plot([0, 3])
    found = entries([axes, axes])
    assert [(entry.label, entry.colour) for entry in found] == [("a", "#112233"), ("b", "#778899"), ("c", "#aabbcc")]
    assert found[0].dash
    assert not found[1].dash


def test_panels_share_a_legend_unless_they_contradict_each_other(axes: Axes) -> None:
    lines(axes, table(), "t")
    legend = entries([axes])
    assert shared([legend, legend[:1]]) == legend
    other = Figure().add_subplot()
    other.plot([0, 1], color="#000000", label="ln")
    assert shared([legend, entries([other])]) == []
    assert shared([]) == []
    alike = Figure().add_subplot()
    for label in "ab":
        alike.plot([0, 1], color="#000000", label=label)
    assert shared([entries([alike])]) == []


@pytest.mark.parametrize("number", [1, 3, 4, 5])
def test_a_figure_holds_all_panels(number: int, tmp_path: Path) -> None:
    png, svg = save_figure([drawing(table())] * number, tmp_path, "Does it <grow> & grow?")
    picture = matplotlib.image.imread(png)
    columns = min(number, 2)
    assert picture.shape[1] == pytest.approx(2 * columns * 470, abs=2)
    assert picture.std() > 0.02
    ElementTree.parse(svg)
    assert {path.name for path in tmp_path.iterdir()} == {"figure.png", "figure.svg"}


def test_a_figure_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_figure([drawing(table())], tmp_path / name, "Again?")
    assert (tmp_path / "a" / "figure.png").read_bytes() == (tmp_path / "b" / "figure.png").read_bytes()


@pytest.mark.parametrize("value", [math.inf, math.nan, 0.0, -1.0, 1e-100, 1e100])
def test_awkward_values_can_be_drawn(value: float, tmp_path: Path) -> None:
    m = table(ln=value)

    def draw(axes: Axes, theme: Theme) -> None:
        lines(axes, m, "t")
        log_axis(axes)

    save_figure([Panel("y", "x", draw, "Awkward.")], tmp_path, "Awkward?")
    inline_panels([Panel("y", "x", draw, "Awkward.")], "awkward")


def test_panels_of_a_page_are_well_formed_and_say_what_they_show() -> None:
    drawn, legend = inline_panels([drawing(table()), drawing(table())], "key")
    assert [entry.label for entry in legend] == list(NORMS)
    assert all(panel.legend == [] for panel in drawn)
    ids: list[str] = []
    for panel in drawn:
        root = ElementTree.fromstring(panel.svg.replace("<svg", '<svg xmlns:xlink="x"', 1))  # HTML knows the prefix
        ids += [str(element.get("id")) for element in root.iter() if element.get("id")]
        assert "Values against t." in panel.svg
        assert "<unit>" not in panel.svg
    assert len(ids) == len(set(ids))


def test_panels_with_legends_of_their_own_keep_them() -> None:
    def other(axes: Axes, theme: Theme) -> None:
        axes.plot([0, 1], color="#000000", label="ln")

    drawn, legend = inline_panels([drawing(table()), Panel("y", "x", other, "Other.")], "key")
    assert legend == []
    assert [[entry.label for entry in panel.legend] for panel in drawn] == [list(NORMS), ["ln"]]
