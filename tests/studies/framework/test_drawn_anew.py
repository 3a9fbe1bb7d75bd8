"""A replicate is everything that is drawn: weights, order of batches, and the data with their test sequences."""

from __future__ import annotations

import torch

from rnnnorm.studies.data.plain_training import build_data
from rnnnorm.studies.framework.grid import drawn_anew, grid

GENERATED = {"class_path": "rnnnorm.data.TemporalOrder", "init_args": {"num_train": 8, "num_val": 4, "num_test": 6}}


def test_generated_data_are_those_of_the_trials_seed() -> None:
    config = {"data": GENERATED, "model": {"init_args": {"hidden_size": 4}}}
    drawn = {}
    for trial in grid({"size": 1}, ["none"], [0, 7], config):
        assert trial.config is not None
        data = build_data(trial.config, trial.seed)
        drawn[trial.seed] = torch.cat([batch.input.data.flatten() for batch in data.test_dataloader()])
        assert trial.config["model"] == config["model"]
    assert drawn[0].shape != drawn[7].shape or not torch.equal(drawn[0], drawn[7])
    assert "seed" not in GENERATED["init_args"]


def test_data_within_data_are_drawn_anew_and_others_are_left() -> None:
    scaled = {"class_path": "rnnnorm.studies.data.scaling.Scaled", "init_args": {"data": GENERATED, "scaling": "raw"}}
    inner = drawn_anew({"data": scaled}, 3)["data"]["init_args"]
    assert inner["data"]["init_args"]["seed"] == 3
    assert "seed" not in inner
    files = {"class_path": "rnnnorm.data.SpokenDigits", "init_args": {"batch_size": 2}}
    assert drawn_anew({"data": files}, 3)["data"] == files
    fixed = {"class_path": "TemporalOrder", "init_args": {"seed": 5}}
    assert drawn_anew({"data": fixed}, 3)["data"] == fixed
    unknown = {"class_path": "nowhere.Nothing"}
    assert drawn_anew({"data": unknown, "model": {}}, 3) == {"data": unknown, "model": {}}
