"""Grids of trials, sources of data, evaluation in every mode."""

from __future__ import annotations

from typing import Any

import pytest

import rnnnorm.studies.framework.modes as modes
from rnnnorm.data import TemporalOrder
from rnnnorm.studies.framework.grid import grid, sources
from rnnnorm.studies.framework.modes import in_every_mode
from rnnnorm.studies.framework.settings import Settings
from rnnnorm.tasks import for_spec

REAL = {"vowels": {"class_path": "rnnnorm.data.JapaneseVowels", "init_args": {"batch_size": 16}}}
CONFIG = {"data": {"class_path": "rnnnorm.data.TemporalOrder", "init_args": {"num_train": 8}}}


def settings(**keys: Any) -> Settings:
    return Settings((0, 1), ("none",), {}, CONFIG, **keys)


def test_the_first_axis_is_the_outermost_loop() -> None:
    made = grid({"layers": (1, 2), "cell": "lstm", "gain": [0.1]}, ["none", "ln"], range(2))
    assert [(t.conditions["layers"], t.norm, t.seed) for t in made] == [
        (layers, norm, seed) for layers in (1, 2) for norm in ("none", "ln") for seed in (0, 1)
    ]
    assert dict(made[0].conditions) == {"layers": 1, "cell": "lstm", "gain": 0.1}
    assert made[0].config is None
    assert made[0].weight == 1.0


def test_configuration_and_weight_may_depend_on_the_conditions() -> None:
    first, second = grid(
        {"layers": (1, 2)}, ["none"], [0], lambda c: {"n": c["layers"]}, lambda c: 10.0 * float(c["layers"])
    )
    assert (first.config, second.config) == ({"n": 1}, {"n": 2})
    assert (first.weight, second.weight) == (10, 20)


def test_real_data_need_a_folder() -> None:
    assert [s.name for s in sources(settings(), "made", REAL)] == ["made"]
    made, real = sources(settings(data_dir="there"), "made", REAL)
    assert (made.real, real.real) == (False, True)
    assert made.configured(trainer={"max_epochs": 1}) == {**CONFIG, "trainer": {"max_epochs": 1}}
    assert real.configured() == {"data": {**REAL["vowels"], "init_args": {"data_dir": "there", "batch_size": 16}}}


def test_own_data_are_the_only_ones() -> None:
    (own,) = sources(settings(own=True, data_dir="there"), {"a": None, "b": None}, REAL)
    assert own.name == "own"
    assert own.configured() == CONFIG


def test_several_generated_tasks() -> None:
    a, b = sources(settings(), {"a": {"class_path": "rnnnorm.data.DelayedRecall", "init_args": {}}, "b": None})
    assert a.configured()["data"]["class_path"] == "rnnnorm.data.DelayedRecall"
    assert b.configured() == CONFIG


@pytest.mark.parametrize(
    ("norm", "repeat", "expected"),
    [
        ("bn-timestep", False, ["running", "population", "batch"]),
        ("ln", False, ["running"]),
        ("ln", True, ["running"] * 3),
    ],
)
def test_every_mode_that_differs(norm: str, repeat: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    data = TemporalOrder(num_train=8, num_val=1, num_test=4, min_length=10, max_length=12, batch_size=4)
    model = for_spec(data.spec)(data.spec, hidden_size=4, norm=norm)
    used: list[str] = []
    original = modes.statistics
    monkeypatch.setattr(modes, "statistics", lambda model, mode: used.append(mode) or original(model, mode))
    losses = {}
    for mode in in_every_mode(model, data.train_dataloader(), repeat=repeat):
        losses[mode] = sum(float(model.scores(batch).loss.sum()) for batch in data.test_dataloader())
    assert used == expected
    assert len(losses) == (3 if repeat or norm != "ln" else 1)
    assert len(set(losses.values())) == (3 if norm == "bn-timestep" else 1)
    assert not model.training
