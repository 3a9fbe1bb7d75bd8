"""Tables and their pictures."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from matplotlib.colors import LogNorm

from rnnnorm.probes.heat_maps import HeatMap
from rnnnorm.probes.table import Table


def filled(rows: list[list[float]], limit: int = 256) -> Table:
    table = Table(limit)
    for k, row in enumerate(rows):
        table.add(10 * k, torch.tensor(row))
    return table


def test_ragged_rows_end_in_nan() -> None:
    array = filled([[1.0], [2.0, 3.0]]).array()
    np.testing.assert_array_equal(array, [[1.0, math.nan], [2.0, 3.0]])
    assert Table().array().shape == (0, 0)


def test_a_full_table_keeps_rows_at_equal_distances() -> None:
    table = filled([[float(k)] for k in range(100)], limit=10)
    assert table.steps == [160 * k for k in range(len(table.steps))]
    assert 5 <= len(table.steps) <= 10
    assert [row[0] for row in table.array()] == [step / 10 for step in table.steps]


def test_a_table_goes_on_after_it_was_stored() -> None:
    whole, part, resumed = Table(4), Table(4), Table(4)
    for k in range(50):
        whole.add(k, torch.tensor([float(k)]))
        (part if k < 13 else resumed).add(k, torch.tensor([float(k)]))
        if k == 12:
            stored = io.BytesIO()
            torch.save(part.state_dict(), stored)
            stored.seek(0)
            resumed.load_state_dict(torch.load(stored, weights_only=True))
    assert resumed.steps == whole.steps
    np.testing.assert_array_equal(resumed.array(), whole.array())


def test_limits_and_scales_are_checked() -> None:
    with pytest.raises(ValueError, match="at least 2 rows, got limit=1"):
        Table(1)
    with pytest.raises(ValueError, match="scale must be one of linear, share, log, signed, got 'cubic'"):
        HeatMap("a", "b", "cubic")


def test_a_heat_map_has_a_panel_per_series_with_axes_and_a_colour_bar() -> None:
    tables = {f"gradient/l{k}/h": filled([[1.0, 10.0], [0.0, 100.0, math.inf]]) for k in range(2)}
    figure = HeatMap("gradient", "norm", "log").draw({**tables, "other/l0": filled([[7.0]])})
    assert figure is not None
    *panels, bar = figure.axes
    assert [axes.get_title() for axes in panels] == ["l0/h", "l1/h"]
    assert (panels[0].get_xlabel(), panels[0].get_ylabel(), bar.get_ylabel()) == ("training step", "timestep t", "norm")
    (mesh,) = panels[0].collections
    assert isinstance(mesh.norm, LogNorm)
    assert 1 <= mesh.norm.vmin < 2
    assert 90 < mesh.norm.vmax <= 100
    assert mesh.get_array().shape == (3, 2)  # t × measurement


def test_single_outliers_do_not_take_all_the_colours() -> None:
    figure = HeatMap("rms", "rms").draw({"rms/l0": filled([[1e9, *range(500)]])})
    assert figure is not None
    (mesh,) = figure.axes[0].collections
    assert mesh.norm.vmax < 500


def test_signed_colours_are_symmetric_around_zero() -> None:
    figure = HeatMap("gap", "gap", "signed").draw({"gap/running": filled([[-1.0, 3.0]])})
    assert figure is not None
    (mesh,) = figure.axes[0].collections
    assert mesh.norm.vmin == -mesh.norm.vmax
    assert mesh.norm.vmax == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("row", [[0.0, -1.0], [math.nan]], ids=["no-logarithm", "nan"])
def test_nothing_is_drawn_where_nothing_has_a_colour(row: list[float]) -> None:
    assert HeatMap("a", "a", "log").draw({"a/b": filled([row])}) is None
    assert HeatMap("a", "a", "log").draw({}) is None


@pytest.mark.parametrize("scale", ["linear", "share", "log", "signed"])
def test_one_value_everywhere_can_be_drawn(scale: str) -> None:
    assert HeatMap("a", "a", scale).draw({"a/b": filled([[2.0, 2.0]])}) is not None
