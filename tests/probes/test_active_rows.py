"""Active rows per step, and the errors they imply."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tasks.tiny import RAGGED, batches_of, model_of, trainer_of

from rnnnorm.probes import ActiveRows
from rnnnorm.probes.active_rows import error_of_deviation, error_of_mean

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_counts_are_those_of_the_batches(cell: str) -> None:
    probe = ActiveRows(every=1)
    trainer_of(callbacks=[probe]).fit(model_of("tagging", cell=cell, num_layers=2), batches_of("tagging"))
    for row, lengths in zip(probe.table, RAGGED, strict=True):
        assert row[: max(lengths)].tolist() == [sum(length > t for length in lengths) for t in range(max(lengths))]
        assert np.isnan(row[max(lengths) :]).all()
    np.testing.assert_allclose(probe.tables["mean_error/all"].array(), probe.table**-0.5, rtol=1e-6)


def test_errors_are_those_of_normal_rows() -> None:
    n, sigma = 20, 3.0
    rows = sigma * torch.randn(20000, n)
    active = torch.tensor([n])
    assert float(rows.mean(1).std() / sigma) == pytest.approx(float(error_of_mean(active)), rel=0.03)
    assert float(rows.std(1).std() / sigma) == pytest.approx(float(error_of_deviation(active)), rel=0.05)
    assert error_of_deviation(torch.tensor([1])).item() == float("inf")
