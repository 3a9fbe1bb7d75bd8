"""Pictures of tables: size, axes, colours, marks and words."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rnnnorm.probes import ALL
from rnnnorm.probes.colour_scale import GRAY, ColourScale, number
from rnnnorm.probes.heat_maps import HeatMap, last_reaching
from rnnnorm.probes.picture import HEIGHT, MARK, TYPE, WIDTH, Panel, edges, font, paint, round_numbers, wrapped
from rnnnorm.probes.table import Table

CARD = 454, 215
"""Pixels of a picture in TensorBoard's Time Series tab at a window of 1600 pixels."""
NARROW = 350
"""Width of a picture in its Images tab."""


def filled(rows: list[list[float]], start: int = 0) -> Table:
    table = Table()
    for k, row in enumerate(rows):
        table.add(start + 10 * k, torch.tensor(row))
    return table


def test_type_is_readable_where_it_is_shown() -> None:
    assert CARD[0] >= WIDTH
    assert CARD[1] >= HEIGHT
    assert font().size == font(bold=True).size == TYPE
    assert TYPE * NARROW / WIDTH >= 9


def test_a_picture_per_layer_with_one_scale() -> None:
    tables = {f"gradient/l{k}/{s}": filled([[10.0**k, 1.0], [1.0, 2.0]]) for k in range(2) for s in "hc"}
    heat_map = HeatMap("gradient", "norm", "log", "Look.")
    pictures = heat_map.draw({**tables, "other/l0": filled([[7.0]])})
    assert list(pictures) == ["l0", "l1"]
    assert {picture.shape for picture in pictures.values()} == {(HEIGHT, WIDTH, 3)}
    together = HeatMap("gradient", "norm", "log", by_layer=False)
    assert list(together.draw(tables)) == [""]
    assert list(together.layers(tables)[""]) == ["l0/h", "l0/c", "l1/h", "l1/c"]
    assert not np.array_equal(pictures["l0"], heat_map.draw(tables, {"l0": "It shows this."})["l0"])
    assert heat_map.draw({}) == {}


@pytest.mark.parametrize("row", [[0.0, -1.0], [math.nan]], ids=["no-logarithm", "nan"])
def test_nothing_is_drawn_where_nothing_has_a_colour(row: list[float]) -> None:
    assert HeatMap("a", "a", "log").draw({"a/l0/b": filled([row])}) == {}


@pytest.mark.parametrize("kind", ["linear", "share", "log", "signed"])
@pytest.mark.parametrize("value", [0.0, 1e-30, 0.3, 2.0, 1e30])
def test_one_value_everywhere_can_be_drawn_with_two_ticks(kind: str, value: float) -> None:
    scale = ColourScale.of(kind, [np.array([value, value])])
    if scale is None:
        assert (kind, value) == ("log", 0.0)
        return
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 5
    assert all(0 <= place <= 1 for place, _ in ticks)
    assert len({text for _, text in ticks}) == len(ticks)
    assert HeatMap("a", "a", kind).draw({"a/l0/b": filled([[value]])})["l0"].shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("low", [1e-9, 0.003, 0.7, 9.0])
@pytest.mark.parametrize("ratio", [1.0, 1.5, 8.0, 30.0, 1e3, 1e14])
def test_logarithmic_bars_have_two_to_five_ticks_in_order(low: float, ratio: float) -> None:
    scale = ColourScale.of("log", [np.repeat([low, low * ratio], 9)])
    assert scale is not None
    assert scale.low <= low * (1 + 1e-6)
    assert scale.high >= low * ratio * (1 - 1e-6)
    places = [place for place, _ in scale.ticks()]
    assert 2 <= len(places) <= 5
    assert places == sorted(set(places))


def test_single_outliers_do_not_take_all_the_colours() -> None:
    scale = ColourScale.of("linear", [np.array([1e9, *range(500)])])
    assert scale is not None
    assert scale.high == 500
    assert scale.low == 0


def test_signed_colours_are_symmetric_around_zero() -> None:
    scale = ColourScale.of("signed", [np.array([-1.0, 3.0])])
    assert scale is not None
    assert (scale.low, scale.high) == (-5, 5)
    assert scale.places(np.array([0.0])).tolist() == [0.5]


def test_what_has_no_colour_is_gray_and_what_is_infinite_has_the_last_one() -> None:
    scale = ColourScale("log", 1.0, 100.0)
    colours = scale.colours(np.array([0.0, np.nan, np.inf, 100.0, 1e9])).tolist()
    assert colours[1] == [GRAY] * 3
    assert colours[0] == scale.colours(np.array([1.0]))[0].tolist()
    assert colours[2] == colours[3] == colours[4] != [GRAY] * 3


def test_unknown_scales_are_refused() -> None:
    with pytest.raises(ValueError, match="scale must be one of linear, share, log, signed, got 'cubic'"):
        HeatMap("a", "b", "cubic")


def test_axes_begin_at_zero() -> None:
    assert edges([0, 10, 20]).tolist() == [0, 5, 15, 25]
    assert edges([63, 126]).tolist() == [31.5, 94.5, 157.5]
    assert edges([0]).tolist() == [0, 0.5]
    assert round_numbers(483, 2) == [0, 200, 400]
    assert round_numbers(119, 3) == [0, 50, 100]
    assert round_numbers(0.5, 2) == [0]


def test_marks_are_painted_at_their_timestep() -> None:
    rows = [[1.0] * 20] * 4
    table, other = filled(rows), filled([[1e3] * 11 + [1.0] * 9, *[[1.0] * 20] * 3])
    heat_map = HeatMap("a", "a", "log", threshold=("b", 100.0))
    plain = HeatMap("a", "a", "log").draw({"a/l0/h": table})["l0"]
    marked = heat_map.draw({"a/l0/h": table, "b/l0/h": other})["l0"]
    y, x = np.nonzero((plain != marked).any(2))
    assert {tuple(color) for color in marked[y, x].tolist()} == {MARK}
    panel = np.nonzero((plain == plain[HEIGHT // 2 - 20, WIDTH // 2]).all(2))
    top, bottom, left, right = panel[0].min(), panel[0].max(), panel[1].min(), panel[1].max()
    assert (bottom - y.mean()) / (bottom - top) == pytest.approx(10.5 / 20, abs=0.03)
    assert (x.max() - left) / (right - left) == pytest.approx(5 / 35, abs=0.03)  # the first of four measurements
    assert last_reaching(np.array([np.inf, 200.0, 3.0, np.nan]), 100) == 1
    assert math.isnan(last_reaching(np.array([1.0]), 100))


def test_what_probes_say_fits_below_their_pictures() -> None:
    for heat_map in (h for probe in ALL for h in probe.heat_maps):
        assert len(wrapped(heat_map.look, WIDTH - 8)) <= 2, heat_map.look
        assert font(bold=True).getlength(f"l0_reverse: {heat_map.title}") <= WIDTH - 8, heat_map.title


def test_ragged_panels_share_their_axes() -> None:
    scale = ColourScale("linear", 0.0, 1.0)
    short, long = Panel([0, 10], np.ones((2, 3))), Panel([0, 10, 20], np.ones((3, 6)))
    picture = paint("two", {"a": short, "b": long}, scale, "")
    yellow = (picture == scale.colours(np.array([1.0]))).all(2)
    left, right = yellow[:, :200].sum(), yellow[:, 210:382].sum()
    assert left / right == pytest.approx(0.5 * 15 / 25, abs=0.03)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.02, "0.02"), (150.0, "150"), (5000.0, "5000"), (1e-5, "1e−5"), (2e7, "2e7"), (-0.5, "−0.5")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text
