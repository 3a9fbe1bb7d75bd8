"""The study of learning rates: verdicts on made tables, the choice of rates, a tiny real run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from studies.tables import made, reread, verdicts

from rnnnorm.studies.framework.plots import save_figure
from rnnnorm.studies.framework.settings import Settings, load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.learning_rate import LearningRate
from rnnnorm.studies.measures.rates import chosen, exponents

RATES = [2.0**power for power in range(-6, 5)]


def study(quick: bool = True) -> LearningRate:
    return LearningRate(load("learning-rate", quick=quick))


def table(agrees: bool) -> pd.DataFrame:
    """A world in which the claims hold, or do not: loss grows with the octaves from the best rate."""

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        size = int(trial.conditions["batch"])
        if agrees:
            best = size / 128  # linear
            limit = 8.0 if trial.norm == "bn-timestep" else 2.0
        else:
            best = 1.0  # whatever the batch size
            limit = 2.0 if trial.norm == "bn-vertical" else 1.0
        for rate in RATES:
            loss = 0.2 + abs(math.log2(rate / best)) / 10 + 0.01 * trial.seed
            if size == 128 and trial.norm.startswith("bn-") is agrees:
                loss -= 0.1
            yield {"quantity": "first_loss", "learning_rate": rate, "value": 2.0}
            yield {"quantity": "final_loss", "learning_rate": rate, "value": loss if rate <= limit else math.inf}

    return made(study().trials(), rows)


@pytest.mark.parametrize(("agrees", "expected"), [(True, "supported"), (False, "contradicted")])
def test_verdicts_follow_the_numbers(agrees: bool, expected: str, tmp_path: Path) -> None:
    made_up = table(agrees)
    found = verdicts(study(), made_up)
    assert found["larger"] == expected
    assert found["vertical"] == expected
    assert found["unused"] == expected
    assert found["pays"] == expected
    assert verdicts(study(), reread(made_up, tmp_path)) == found
    if agrees:
        assert found["linear"] == "supported"
    else:
        assert found["linear"] == "depends"  # slower than linear, but not faster


def test_the_best_and_the_largest_stable_rate() -> None:
    losses = {0.1: 1.0, 0.2: 0.5, 0.4: 0.9, 0.8: 2.5, 1.6: math.inf}
    rows = [
        {"norm": "ln", "batch": 4, "seed": 0, "quantity": quantity, "learning_rate": rate, "value": value}
        for rate, loss in losses.items()
        for quantity, value in (("first_loss", 2.0), ("final_loss", loss))
    ]
    found = chosen(pd.DataFrame(rows)).set_index("quantity")["value"]
    assert found.to_dict() == {"best": 0.2, "best_loss": 0.5, "stable": 0.4}


def test_a_norm_that_never_trains_has_no_rates() -> None:
    here = {"norm": "ln", "batch": 4, "seed": 0, "learning_rate": 1.0}
    losses = {"first_loss": 1.0, "final_loss": math.inf}
    diverged = pd.DataFrame([{**here, "quantity": name, "value": value} for name, value in losses.items()])
    assert chosen(diverged).empty
    assert study().judge(diverged) == []


def test_exponents_are_slopes_in_octaves() -> None:
    rows = [
        {"norm": "ln", "batch": size, "seed": seed, "value": 0.1 * size**0.5 * (seed + 1)}
        for size in (4, 64)
        for seed in (0, 1)
    ]
    assert exponents(pd.DataFrame(rows), "ln", 4, 64) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("agrees", [True, False])
def test_panels_and_findings(agrees: bool, tmp_path: Path) -> None:
    made_up = reread(table(agrees), tmp_path)
    save_figure(study().panels(made_up), tmp_path, study().question)
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    text = " ".join(study().findings(made_up))
    assert "B = 4" in text
    assert "B = 128" in text
    assert "end of the grid" not in text
    cut = made_up[made_up["learning_rate"] <= 1]
    assert "end of the grid" in " ".join(study().findings(cut))


@pytest.mark.parametrize("quick", [True, False])
def test_trials_are_unique_and_have_seeds(quick: bool) -> None:
    trials = study(quick).trials()
    assert len({(t.arm, t.norm, t.seed) for t in trials}) == len(trials)
    assert len({t.seed for t in trials}) >= 3


def test_a_tiny_run() -> None:
    sizes = {"num_train": 64, "num_val": 1, "num_test": 1, "length_distribution": "fixed", "max_length": 10}
    config = {
        "data": {"class_path": "rnnnorm.studies.data.running_order.RunningOrder", "init_args": sizes},
        "model": {"init_args": {"hidden_size": 8, "optimizer": "sgd", "momentum": 0.9}},
        "trainer": {"max_epochs": 2},
    }
    tiny = LearningRate(Settings((0,), ("ln",), {"batch_sizes": [16], "octaves": [-2, 8]}, config))
    (trial,) = tiny.trials()
    rows = pd.DataFrame(tiny.measure(trial, None))
    losses = rows[rows["quantity"] == "final_loss"].set_index("learning_rate")["value"]
    assert losses[0.25] < rows["value"].iloc[0]
    assert losses[256.0] == math.inf
    assert rows[rows["quantity"] == "first_loss"]["value"].nunique() == 1  # the same start at every rate
