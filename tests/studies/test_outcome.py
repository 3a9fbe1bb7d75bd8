"""How well a trial has learned, and the choice of a learning rate."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rnnnorm.engine.run import Run
from rnnnorm.report.curves import Curve
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.measures.outcome import learned, outcome, training_curve


def trained(curves: dict[str, list[float]] | None = None, **result: Any) -> Trained:
    """A run of which only curves and result are known."""
    common: dict[str, Any] = {"status": "finished", "steps": 40, "seconds": 2.0, "metric": "accuracy"}
    common |= {"metric_mode": "max", "test": {"running": {"accuracy": 0.1}, "population": {"accuracy": 0.8}}}
    shape = SimpleNamespace(task="classification", num_outputs=4)
    comparison: Any = SimpleNamespace(build_data=lambda: SimpleNamespace(spec=shape))
    one = Trained(Run("ln", 0, Path()), common | result, comparison)
    vars(one)["curves"] = {
        tag: Curve(np.arange(len(values)) * 10 + 9, np.array(values)) for tag, values in (curves or {}).items()
    }
    return one


def numbers(run: Trained) -> dict[str, float]:
    return {str(row["quantity"]): row["value"] for row in outcome(run)}


def test_accuracy_is_what_was_learned_under_population_statistics() -> None:
    assert learned(trained()) == 0.8


def test_of_a_loss_it_is_the_probability_of_the_truth() -> None:
    test = {"population": {"perplexity": 4.0, "loss": math.log(4)}}
    assert learned(trained(test=test, metric="perplexity", metric_mode="min")) == pytest.approx(0.25)


def test_a_run_that_diverged_has_learned_nothing_whatever_its_best_checkpoint_says() -> None:
    curves = {"val/loss": [1.0, 0.5], "train/loss": [1.0, 0.2]}
    found = numbers(trained(curves, status="diverged"))
    assert found["learned"] == 0
    assert found["diverged"] == 1
    assert {found[f"{kind}_loss"] for kind in ("best_val", "final_val", "final_train", "test")} == {math.inf}


def test_the_loss_of_test_sequences_is_that_of_population_statistics() -> None:
    test = {"population": {"accuracy": 0.5, "loss": 0.7}, "running": {"accuracy": 0.5, "loss": 0.9}}
    assert numbers(trained({"val/loss": [0.1]}, test=test))["test_loss"] == 0.7


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_was_not_learned(value: float) -> None:
    assert learned(trained(test={"population": {"accuracy": value}})) == 0


def test_the_losses_of_a_run() -> None:
    found = numbers(trained({"val/loss": [1.0, 0.5, 0.7], "train/loss": [9.0, 8.0, 1.0, 2.0, 3.0, 4.0, 5.0]}))
    assert found["best_val_loss"] == 0.5
    assert found["final_val_loss"] == 0.7
    assert found["final_train_loss"] == 3.0  # the mean of the last five
    assert (found["steps"], found["seconds"], found["diverged"]) == (40, 2.0, 0)


def test_without_validation_nothing_is_the_best() -> None:
    found = numbers(trained({}))
    assert {found[f"{kind}_loss"] for kind in ("best_val", "final_val", "final_train")} == {math.inf}


def test_the_curve_is_a_moving_mean_by_steps_taken() -> None:
    rows = list(training_curve(trained({"train/loss": [6.0, 4.0, 2.0, 0.0, 3.0, 1.0]})))
    assert [row["t"] for row in rows] == [10, 20, 30, 40, 50, 60]
    assert [row["value"] for row in rows] == pytest.approx([6, 5, 4, 3, 3, 2])
