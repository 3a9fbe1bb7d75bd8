"""Scores by region and bucket, and where the tail begins."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

from rnnnorm.data import TemporalOrder
from rnnnorm.norms import statistics
from rnnnorm.studies.data.rearranged import Rearranged, tail_start
from rnnnorm.studies.measures.ragged_measures import late_start, measure, shown
from rnnnorm.tasks import for_spec


def data(**keys: Any) -> TemporalOrder:
    return TemporalOrder(
        **{"num_train": 200, "num_val": 20, "num_test": 200, "max_length": 40, "batch_size": 50, **keys}
    )


def measured(norm: str, module: Any) -> tuple[Any, list[dict[str, Any]]]:
    torch.manual_seed(0)
    model = for_spec(module.spec)(module.spec, norm=norm, hidden_size=8).eval()
    return model, [dict(row) for row in measure(model, module)]


def pick(rows: list[dict[str, Any]], **where: Any) -> list[dict[str, Any]]:
    return [row for row in rows if all(row.get(key) == value for key, value in where.items())]


def value(rows: list[dict[str, Any]], **where: Any) -> float:
    (row,) = pick(rows, **where)
    return float(row["value"])


@pytest.mark.parametrize("norm", ["none", "bn-timestep", "bn-vertical"])
def test_scores_are_those_of_the_predictions(norm: str) -> None:
    module = data()
    model, rows = measured(norm, module)
    start = tail_start(module.lengths("train"))
    assert value(rows, quantity="late_start") == start
    for mode in ("running", "batch"):
        with statistics(model, mode):
            found = [model.scores(batch) for batch in module.test_dataloader()]
        score, length = (torch.cat(parts) for parts in list(zip(*found, strict=True))[1:3])
        late = length > start
        for region, inside in (("all", late | True), ("early", ~late), ("late", late)):
            expected = float(score[inside].double().mean())
            assert value(rows, quantity="score", region=region, mode=mode) == pytest.approx(expected)
        buckets = pick(rows, quantity="bucket", mode=mode)
        assert sum(bucket["count"] for bucket in buckets) == 200
        total = sum(bucket["count"] * bucket["value"] for bucket in buckets) / 200
        assert total == pytest.approx(value(rows, quantity="score", region="all", mode=mode))
    gaps = [value(rows, quantity="score", region="late", mode=mode) for mode in ("batch", "running")]
    assert value(rows, quantity="gap", region="late") == pytest.approx(gaps[0] - gaps[1])


def test_active_rows_and_visits() -> None:
    module = data(length_distribution="fixed", max_length=12)
    _, rows = measured("none", module)
    assert {row["value"] for row in pick(rows, quantity="active")} == {50.0}
    assert {row["value"] for row in pick(rows, quantity="visits")} == {1.0}
    assert not pick(rows, quantity="late_start")
    _, rows = measured("none", data())
    longest = max(row["t"] for row in pick(rows, quantity="visits"))
    assert value(rows, quantity="visits", t=longest) < value(rows, quantity="visits", t=0) == 1


def test_modes_and_stored_statistics_of_those_that_have_them() -> None:
    _, plain = measured("none", data())
    assert len({row["value"] for row in pick(plain, quantity="score", region="all")}) == 1
    assert not pick(plain, quantity="off_by")
    _, rows = measured("bn-timestep", data())
    assert {row["mode"] for row in pick(rows, quantity="score")} == {"running", "population", "batch", "at rest"}
    errors = {row["t"]: row["value"] for row in pick(rows, quantity="off_by", mode="running")}
    exact = {row["t"]: row["value"] for row in pick(rows, quantity="off_by", mode="population")}
    # Untrained averages are 0 and 1; population statistics are from other sequences of the same kind.
    assert all(exact[t] < errors[t] for t in errors)
    assert all(math.isfinite(error) for error in (*errors.values(), *exact.values()))


def test_the_tail_begins_where_the_original_data_say() -> None:
    module = data()
    thin = Rearranged(data(), split="tail")
    start = tail_start(module.lengths("train"))
    assert late_start(thin, []) == late_start(module, []) == start
    assert start > tail_start(thin.lengths("train"))
    module.max_train_length = 17
    assert late_start(module, []) == 17
    batches = list(data().train_dataloader())
    assert late_start(torch.nn.Module(), batches) == start  # any data module: from its batches


def test_fewer_and_fewer_steps_are_shown() -> None:
    steps = [t for t in range(1000) if shown(t)]
    assert steps[:14] == [*range(13), 14]
    gaps = [after - before for before, after in pairwise(steps)]
    assert max(gaps) == 32
    assert len(steps) < 90
