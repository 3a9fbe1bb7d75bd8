"""What a network that diverged is worth."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pandas as pd
import pytest

from rnnnorm.data.base import Spec, Task
from rnnnorm.engine.run import Run
from rnnnorm.studies.framework import Contrast, Words
from rnnnorm.studies.framework.trained import CLASSIFIERS, Trained
from rnnnorm.studies.measures.guessing import guess, score

CLASSES = {
    "classification": Spec("classification", num_features=1, num_outputs=4, max_length=5),
    "tagging": Spec("tagging", vocabularies=(9,), num_outputs=8, max_length=5),
    "language-modelling": Spec("language-modelling", vocabularies=(50,), num_outputs=50, max_length=5),
    "regression": Spec("regression", num_features=1, num_outputs=2, max_length=5),
    "multi-label": Spec("multi-label", num_features=88, num_outputs=88, max_length=5),
}


def trained(task: str, status: str = "finished", mode: str = "max", **test: Any) -> Trained:
    comparison: Any = SimpleNamespace(build_data=lambda: SimpleNamespace(spec=CLASSES[task]))
    result = {"status": status, "metric": "metric", "metric_mode": mode, "test": test}
    return Trained(Run("none", 0, Path("nowhere")), result, comparison)


def test_every_task_is_known() -> None:
    assert set(CLASSES) == set(get_args(Task))
    assert set(CLASSIFIERS) < set(get_args(Task))


@pytest.mark.parametrize(
    ("task", "worth"),
    [("classification", 1 / 4), ("tagging", 1 / 8), ("language-modelling", 1 / 50), ("regression", -math.inf)],
)
def test_guessing_is_one_of_the_classes(task: str, worth: float) -> None:
    assert guess(trained(task)) == worth


def test_several_labels_at_a_time_cannot_be_guessed_like_that() -> None:
    assert guess(trained("multi-label")) == -math.inf


def test_larger_scores_are_better() -> None:
    values = {"running": {"metric": 0.5}, "population": {"metric": 0.75}}
    assert score(trained("classification", **values)) == 0.75
    assert score(trained("classification", **values), "running") == 0.5
    assert score(trained("regression", mode="min", **values)) == -0.75


def test_a_network_that_diverged_after_its_best_checkpoint_is_worth_a_guess_all_the_same() -> None:
    values = {"population": {"metric": 0.99}}
    assert score(trained("classification", "diverged", **values)) == 0.25
    assert score(trained("classification", "diverged")) == 0.25
    assert score(trained("regression", "diverged", "min", **values)) == -math.inf


@pytest.mark.parametrize(
    ("loss", "diverged", "value"),
    [(0.0, False, 1.0), (math.log(4), False, 0.0), (9.0, False, 0.0), (math.log(2), False, 0.5), (0.0, True, 0.0)],
)
def test_how_far_a_network_got_from_guessing_to_certainty(loss: float, diverged: bool, value: float) -> None:
    result = {"test": {"population": {"loss": loss}}, "status": "diverged" if diverged else "done"}
    trained = Trained(None, result, None)  # type: ignore[arg-type]
    vars(trained)["spec"] = CLASSES["classification"]
    assert [row["value"] for row in trained.above_guessing()] == [pytest.approx(value)]
    vars(trained)["spec"] = CLASSES["regression"]
    assert [*trained.above_guessing()] == []


def test_what_nobody_has_learned_is_no_evidence() -> None:
    rows = [
        {"norm": norm, "seed": seed, "quantity": quantity, "value": value}
        for norm, reached in (("none", 0.02), ("ln", 0.05))
        for seed in range(5)
        for quantity, value in (("loss", 1.3 + reached * seed), ("above_guessing", reached))
    ]
    contrast = Contrast("loss", "nats", norms=["ln"], against="none", needed=0.01)
    ((_, case),) = contrast.cases(pd.DataFrame(rows), Words())
    assert case.standing == "not learned"
    table = pd.DataFrame(rows)
    table.loc[(table["norm"] == "ln") & (table["quantity"] == "above_guessing"), "value"] = 0.5
    ((_, case),) = contrast.cases(table, Words())
    assert case.standing != "not learned"  # that the other one learns is an effect
    inert = pd.concat([table, pd.DataFrame([{"norm": "ln", "seed": 0, "quantity": "inapplicable", "value": 1.0}])])
    ((_, case),) = contrast.cases(inert, Words())
    assert case.standing == "not applicable"
