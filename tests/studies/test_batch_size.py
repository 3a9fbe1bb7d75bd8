"""The study of batch sizes: verdicts on made tables, the noise of σ̂, a tiny real run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
import torch
from studies.tables import made, verdicts

from rnnnorm.studies.batch_size import BatchSize
from rnnnorm.studies.data.plain_training import build_data, build_task
from rnnnorm.studies.framework.settings import Settings, load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.measures.batch_noise import gaussian_noise, hidden_products, noise, relative_spread

CLAIMS = {"small", "degrades", "flat", "cmbn", "noise"}


def study(quick: bool = True) -> BatchSize:
    return BatchSize(load("batch-size", quick=quick))


def table(agrees: bool, only: str = "") -> pd.DataFrame:
    """A world in which the claims hold, or do not."""

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        if "batch" not in trial.conditions:
            for size in (2, 4, 16):
                value = gaussian_noise(size) * (1 if agrees else 1.5) + 1e-4 * trial.seed
                yield {"quantity": "noise", "size": size, "value": value}
            return
        size = int(trial.conditions["batch"])
        suffers = (trial.norm == "bn-timestep") is agrees
        loss = 0.1 + (1 / size if suffers else 0.0) + 1e-4 * trial.seed
        for mode in ("population", "running", "batch"):
            yield {"quantity": "loss", "mode": mode, "learning_rate": 0.01, "value": loss}
        for quantity in ("test_loss", "val_loss"):
            yield {"quantity": quantity, "learning_rate": 0.01, "value": loss}
        yield {"quantity": "diverged", "learning_rate": 0.01, "value": float(trial.norm == only)}

    return made(study().trials(), rows)


def test_verdicts_depend_where_batch_sizes_disagree() -> None:
    made_up = table(True)
    lucky = (made_up["norm"] == "bn-timestep") & (made_up["batch"] == 8) & (made_up["quantity"] == "test_loss")
    made_up.loc[lucky, "value"] = 0.1 + 1e-4 * made_up.loc[lucky, "seed"]
    assert verdicts(study(), made_up)["small"] == "open"


def test_divergence_is_an_infinite_loss_and_is_told() -> None:
    made_up = table(True, only="bn-timestep")
    here = (made_up["norm"] == "bn-timestep") & made_up["quantity"].isin(["test_loss", "loss", "val_loss"])
    made_up.loc[here, "value"] = math.inf
    assert "30 of 162 trainings diverged: bn-timestep (30)." in study().findings(made_up)


@pytest.mark.parametrize(
    ("agrees", "sentence"), [(True, "as good as ln, within 0.02 nats, from B = 128 on"), (False, "at every batch size")]
)
def test_findings_name_the_crossover(agrees: bool, sentence: str) -> None:
    assert sentence in " ".join(study().findings(table(agrees)))


@pytest.mark.parametrize("size", [8, 64])
def test_gaussian_rows_follow_the_formula(size: int) -> None:
    rows = torch.randn(20_000, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    measured = relative_spread(rows, size, 500, torch.Generator().manual_seed(1))
    assert measured == pytest.approx(gaussian_noise(size), rel=0.08)


def test_two_valued_rows_do_not() -> None:
    rows = torch.arange(1000).remainder(2).double()[:, None]
    assert relative_spread(rows, 64, 300, torch.Generator().manual_seed(0)) < 0.5 * gaussian_noise(64)


def test_units_that_never_vary_are_left_out() -> None:
    rows = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    still = torch.cat([rows, torch.ones(500, 1)], 1)
    alone, both = (relative_spread(r, 4, 50, torch.Generator().manual_seed(0)) for r in (rows, still))
    assert both == pytest.approx(alone)


def test_noise_leaves_out_batches_without_a_variance() -> None:
    assert [size for size, _ in noise([torch.randn(10, 3)], (1, 2, 4), 5, 0)] == [2, 4]
    with pytest.raises(ValueError, match="at least 2"):
        relative_spread(torch.ones(1, 3), 2, 5, torch.Generator())


TINY = {
    "data": {
        "class_path": "rnnnorm.studies.data.running_order.RunningOrder",
        "init_args": {"num_train": 48, "num_val": 8, "num_test": 16, "length_distribution": "fixed", "max_length": 8},
    },
    "model": {"init_args": {"hidden_size": 4}},
    "trainer": {"max_epochs": 1, "gradient_clip_val": 1.0},
}


def test_hidden_products_are_of_the_states() -> None:
    data = build_data(TINY, 0)
    task = build_task(TINY, data, "none", 0)
    products = hidden_products(task, data.test_dataloader())
    assert [tuple(p.shape) for p in products] == [(16, 16)] * 3
    batch = next(iter(data.test_dataloader()))
    output, _ = task.recurrent(task._embedded(batch.input))
    expected = output.data.view(8, 16, 4)[4] @ task.recurrent.weight_hh_l0.T
    torch.testing.assert_close(products[1], expected.double())


def test_a_tiny_run() -> None:
    options = {
        "batch_sizes": [4, 16],
        "slow_norms": ["cmbn"],
        "slow_batch_sizes": [16],
        "learning_rates": [0.01, 0.02],
        "steps": 5,
        "noise_draws": 10,
    }
    tiny = BatchSize(Settings((0,), ("ln", "bn-timestep", "cmbn"), options, TINY))
    trials = tiny.trials()
    fast = [("ln", 4), ("bn-timestep", 4), ("ln", 16), ("bn-timestep", 16)]
    assert [(t.norm, t.conditions.get("batch")) for t in trials] == [*fast * 2, *[("cmbn", 16)] * 2, ("none", None)]
    measured = made(trials, lambda trial: list(tiny.measure(trial, None)))
    losses = measured[measured["quantity"] == "test_loss"]
    assert len(losses) == 20
    assert losses["value"].map(math.isfinite).all()
    assert set(measured[measured["quantity"] == "noise"]["size"]) == {4, 16}
    ln = measured[(measured["norm"] == "ln") & (measured["batch"] == 4) & (measured["quantity"] == "loss")]
    assert ln.groupby(["equal", "learning_rate"])["value"].nunique().eq(1).all()  # one way to evaluate
    by_arm = measured[measured["quantity"] == "training_loss"].groupby(["equal", "batch"])["t"].max() + 1
    assert by_arm.to_dict() == {("samples", 4): 12, ("samples", 16): 3, ("steps", 4): 5, ("steps", 16): 5}


def test_a_best_rate_at_an_end_of_the_range_is_told() -> None:
    m, small = table(True), table(True)
    small["learning_rate"] = 0.005
    small.loc[small["quantity"] == "val_loss", "value"] += 1.0
    said = " ".join(study().findings(pd.concat([m, small], ignore_index=True)))
    assert "The best learning rate is at an end of the range for 54 of 54: none, B = 2, equal samples (largest)" in said


def test_norms_are_compared_with_ln_whatever_their_rates() -> None:
    m = table(True)
    m.loc[(m["norm"] == "ln") & (m["batch"] == 128), "learning_rate"] = 0.02
    whole = study().derived(m)
    excess = whole[(whole["quantity"] == "excess") & (whole["batch"] == 128)]
    assert set(excess["norm"]) == {"none", "wn", "gn", "bn-timestep"}
