"""Tables of a quantity against t."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch

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


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match="at least 2 rows, got limit=1"):
        Table(1)
