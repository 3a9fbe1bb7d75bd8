"""The study of learning rates: the choice of rates and what is derived from them, a tiny real run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import pandas as pd
import pytest

from rnnnorm.studies.framework.measurements import per_seed, where
from rnnnorm.studies.framework.settings import Settings, load
from rnnnorm.studies.learning_rate import OCTAVE, LearningRate
from rnnnorm.studies.measures.rates import epochs_for, grid_of, rates


def study() -> LearningRate:
    return LearningRate(load("learning-rate", quick=True))


def table(losses: Mapping[tuple[str, int, int], Mapping[float, float]]) -> pd.DataFrame:
    """The measurements of trainings: norm, batch size and seed → learning rate → final loss; all begin at 2."""
    rows = [
        {"batch": size, "norm": norm, "seed": seed, "quantity": quantity, "learning_rate": rate, "value": value}
        for (norm, size, seed), of_rates in losses.items()
        for rate, loss in of_rates.items()
        for quantity, value in (("first_loss", 2.0), ("final_loss", loss))
    ]
    return pd.DataFrame(rows)


def test_the_best_and_the_largest_stable_rate() -> None:
    found = rates(table({("ln", 4, 0): {0.1: 1.0, 0.2: 0.5, 0.4: 0.9, 0.8: 2.5, 1.6: math.inf}}))
    assert found.to_dict("records") == [
        {"norm": "ln", "batch": 4, "seed": 0, "best": 0.2, "best_loss": 0.5, "stable": 0.4}
    ]


def test_a_norm_that_never_trains_has_no_rates() -> None:
    diverged = table({("ln", 4, 0): {1.0: math.inf}})
    assert rates(diverged).empty
    assert study().judge(diverged) == []
    assert study().findings(diverged) == []
    assert study().panels(diverged) == []


def world() -> pd.DataFrame:
    """Best rates grow with the batch size, those of bn-timestep by B^2 from 4 to 16; its loss at 64 is lower."""
    made = {}
    for seed in (0, 1):
        made |= {("none", size, seed): {size / 16: 0.5, 8.0: 1.0} for size in (4, 16, 64)}
        made |= {("bn-timestep", size, seed): {size**2 / 64: 0.4 - size / 320, 16.0: 1.0} for size in (4, 16)}
        made["bn-timestep", 64, seed] = {2.0: 0.2 + seed / 10, 32.0: 1.0 if seed else math.inf}
    return table(made)


@pytest.fixture
def measured() -> pd.DataFrame:
    return world()


def test_what_is_derived_from_rates(measured: pd.DataFrame) -> None:
    found = study().derived(measured)
    slopes = where(found, quantity="slope", batch=16)
    assert set(slopes["start"]) == {4}
    assert per_seed(slopes, norm="none").tolist() == pytest.approx([1, 1])
    assert per_seed(slopes, norm="bn-timestep").tolist() == pytest.approx([2, 2])
    assert where(found, quantity="slope", batch=4)["value"].isna().all()
    gain = where(found, quantity="gain", norm="bn-timestep")
    assert per_seed(gain, batch=4).tolist() == pytest.approx([0.5 - 0.4 + 4 / 320] * 2)
    assert per_seed(gain, batch=64).tolist() == pytest.approx([0.3, 0.2])
    assert per_seed(where(found, quantity="spare", batch=4), norm="none").tolist() == pytest.approx([5, 5])
    assert per_seed(where(found, quantity="typical_stable", batch=64), norm="bn-timestep").iloc[0] == 8  # of 2 and 32
    mean = where(found, quantity="mean_loss", norm="bn-timestep", learning_rate=32.0)
    assert set(mean["value"]) == {math.inf}


def test_conditions_and_findings(measured: pd.DataFrame) -> None:
    cases = {verdict.claim.key: [case.condition for case in verdict.cases] for verdict in study().judge(measured)}
    assert cases["larger"] == ["bn-timestep, B = 64", "bn-timestep, B = 16", "bn-timestep, B = 4"]
    assert cases["unused"] == ["bn-timestep, B = 4", "none, B = 4"]
    assert cases["pays"] == ["bn-timestep, gain over none at B = 64 minus that at B = 4"]
    assert cases["linear"][0] == "bn-timestep, B = 4 to 16, not slower"
    best, small, large, end = study().findings(measured)
    assert "`bn-timestep` at B = 4 (0.388" in best
    assert "bn-timestep loss 0.388 at 0.25 of at most 16, none loss 0.500 at 0.25 of at most 8" in small
    assert "B = 64" in large
    assert end == "Stable up to the end of the grid, so that the true limit is higher: bn-timestep (32)."


def test_a_tiny_run() -> None:
    sizes = {"num_train": 64, "num_val": 1, "num_test": 1, "length_distribution": "fixed", "max_length": 10}
    config = {
        "data": {"class_path": "rnnnorm.studies.data.running_order.RunningOrder", "init_args": sizes},
        "model": {"init_args": {"hidden_size": 8, "optimizer": "sgd", "momentum": 0.9}},
        "trainer": {"max_epochs": 2},
    }
    tiny = LearningRate(
        Settings((0,), ("ln",), {"batch_sizes": [16], "octaves": [-2, 8], "per_octave": 1, "min_steps": 1}, config)
    )
    (trial,) = tiny.trials()
    rows = pd.DataFrame(tiny.measure(trial, None))
    losses = rows[rows["quantity"] == "final_loss"].set_index("learning_rate")["value"]
    assert losses[0.25] < rows["value"].iloc[0]
    assert losses[256.0] == math.inf
    assert rows[rows["quantity"] == "first_loss"]["value"].nunique() == 1  # the same start at every rate


@pytest.mark.parametrize("quick", [True, False])
def test_the_grid_is_as_fine_as_the_smallest_effect_and_no_training_is_short(quick: bool) -> None:
    """A best or largest rate is known to a step of the grid: differences of half an octave need half octaves."""
    found = LearningRate(load("learning-rate", quick=quick))
    option = found.settings.option
    grid = grid_of(option("octaves"), option("per_octave"))
    assert max(math.log2(b / a) for a, b in itertools.pairwise(grid)) <= OCTAVE + 1e-9
    count = found.settings.config["data"]["init_args"]["num_train"]
    for size in option("batch_sizes"):
        assert epochs_for(found.settings.config, size, option("min_steps")) * count / size >= option("min_steps")


def test_every_batch_normalization_may_have_larger_rates() -> None:
    made = {("none", 4, s): {1.0: 0.5} for s in (0, 1)} | {("bn-vertical", 4, s): {4.0: 0.5} for s in (0, 1)}
    found = {verdict.claim.key: verdict for verdict in study().judge(table(made))}
    assert [case.condition for case in found["larger"].cases] == ["bn-vertical, B = 4"]
