"""Points of the grid: where they live and what they keep."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from studies.tables import keep

from rnnnorm.studies.framework.trial import Condition, Trial

AWKWARD: list[dict[str, Condition]] = [
    {},
    *({"a": number} for number in (1, 2, 0.1, 0.1234567, 0.1234568, 1e6, 1e6 + 1, 1e-300, math.inf, -1)),
    *({"a": word} for word in ("x/y", "x:y", "x y", "x_y", "..", "../../b", "ü", "ö")),
    *({"a": norm} for norm in ("bn-timestep:gain=1.0", "bn-timestep,gain=1.0")),
    *({"a": long} for long in ("x" * 300, "x" * 299 + "y", "界" * 100, "界" * 99 + "外")),
    {"a": 1, "b": 2},
    {"a": 1, "b": 3},
]


def test_every_trial_has_a_folder_of_its_own(tmp_path: Path) -> None:
    made = [
        Trial(where, norm, seed)
        for where in AWKWARD
        for norm in ("none", "ln", "ln:gain=0.5", "ln:hidden.gain=0.5")
        for seed in (0, 10)
    ]
    folders = {trial.measured(tmp_path) for trial in made}
    shared = [
        (a.conditions, b.conditions)
        for a, b in itertools.combinations(made, 2)
        if (a.norm, a.seed) == ("none", 0) == (b.norm, b.seed) and a.arm == b.arm
    ]
    assert len(folders) == len(made), shared


@pytest.mark.parametrize("where", AWKWARD, ids=range(len(AWKWARD)))
def test_a_folders_name_is_safe(where: dict[str, Condition], tmp_path: Path) -> None:
    trial = Trial(where, "bn-timestep:gain=1.0", 3)
    assert trial.measured(tmp_path).resolve().is_relative_to(tmp_path.resolve())
    assert len(trial.measured(tmp_path).relative_to(tmp_path).parts) == 4
    assert not set(trial.arm) & set('/\\:*?"<>| \n')
    keep([{"quantity": "x", "value": 1.0}], trial, tmp_path)
    assert trial.read(tmp_path) == [{"quantity": "x", "value": 1.0}]


def test_an_arm_can_be_read() -> None:
    assert Trial({"batch_size": 4, "rate": 0.1}, "ln", 0).arm == "batch_size=4,rate=0.1"
    assert Trial({}, "ln", 0).arm == "all"
    assert Trial({"part": "trained"}, "ln:gain=0.5", 2).name() == "part=trained/ln,gain=0.5/seed=2"


def test_measurements_are_json_that_every_reader_takes(tmp_path: Path) -> None:
    trial = Trial({"a": 1}, "ln", 0)
    rows = [
        {"quantity": "x", "t": np.int64(3), "value": np.float32(0.5)},
        {"quantity": "y", "value": torch.tensor(2.0)},
        {"quantity": "z", "value": torch.tensor(math.inf)},
        {"quantity": "z", "value": -math.inf},
        {"quantity": "z", "value": np.float64("nan")},
        {"quantity": "n", "value": 7},
        {"quantity": "d", "value": True},
    ]
    keep(rows, trial, tmp_path)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    content = json.loads(trial.measured(tmp_path).read_text(), parse_constant=refuse)
    assert [row["value"] for row in content] == [0.5, 2.0, "inf", "-inf", None, 7, True]
    assert content[0]["t"] == 3
    assert trial.read(tmp_path) == content


@pytest.mark.parametrize(
    "text", ["", "{", '[{"quantity": "x", "value": 1.0', "{}", "null", "3", "[1, 2]", '[{"a": 1}]']
)
def test_broken_measurements_are_none(text: str, tmp_path: Path) -> None:
    trial = Trial({"a": 1}, "ln", 0)
    assert trial.read(tmp_path) is None
    path = trial.measured(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert trial.read(tmp_path) is None


def test_a_trial_that_measured_nothing_has_been_measured(tmp_path: Path) -> None:
    trial = Trial({"a": 1}, "ln", 0)
    keep([], trial, tmp_path)
    assert trial.read(tmp_path) == []


def test_what_can_not_be_kept_leaves_no_file(tmp_path: Path) -> None:
    trial = Trial({"a": 1}, "ln", 0)
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        keep([{"quantity": "x", "value": torch.zeros(2)}], trial, tmp_path)
    assert trial.read(tmp_path) is None


def test_trials_are_compared_by_what_distinguishes_them() -> None:
    assert Trial({"a": 1}, "ln", 0, config={"x": 1}, weight=2) == Trial({"a": 1}, "ln", 0)
    assert Trial({"a": 1}, "ln", 0) != Trial({"a": 1}, "ln", 1)
