"""The bare training loop."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from rnnnorm.norms import statistics
from rnnnorm.norms.presets import parse_norm
from rnnnorm.studies.data.plain_training import build_data, build_task, carrying, evaluate, final, losses_by_step, train

STREAM = {
    "class_path": "rnnnorm.studies.data.running_order.RunningOrderStream",
    "init_args": {"bptt": 6, "segments": 12, "eval_segments": 3, "batch_size": 8},
}


def config(**model: Any) -> dict[str, Any]:
    return {"data": STREAM, "model": {"init_args": {"hidden_size": 8, **model}}}


def trained(norm: str, seed: int = 0, **keys: Any) -> tuple[Any, Any, list[float]]:
    setting = config(learning_rate=0.01)
    data = build_data(setting, seed)
    task = build_task(setting, data, norm, seed)
    return task, data, train(task, data, 3, **keys)


def test_it_learns_and_is_reproducible() -> None:
    losses = trained("none")[2]
    assert len(losses) == 36
    assert sum(losses[-6:]) < sum(losses[:6])
    assert losses == trained("none")[2]
    assert losses != trained("none", seed=1)[2]


def test_steps_and_clipping_are_limits() -> None:
    assert len(trained("none", max_steps=5)[2]) == 5
    assert trained("none", clip=1e-9)[2] != trained("none")[2]


def test_a_carried_state_makes_a_difference() -> None:
    reset, carried = trained("none", carry=False)[2], trained("none", carry=True)[2]
    assert reset[0] == carried[0]
    assert reset[1] != carried[1]
    assert carried == trained("none", carry=None)[2]  # as the stream says


def test_statistics_of_steps_do_not_change_training() -> None:
    per_step, shared = trained("bn-timestep")[0], trained("bn-shared")[0]
    for a, b in zip(per_step.parameters(), shared.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_training_stops_where_it_diverges() -> None:
    setting = config(optimizer="sgd", learning_rate=1e9)
    data = build_data(setting, 0)
    losses = train(build_task(setting, data, "none", 0), data, 3)
    patient = train(build_task(setting, data, "none", 0), data, 3, patience=2.0)
    assert len(patient) < 36
    assert patient[-1] == math.inf
    assert len(patient) <= len(losses)
    assert final(patient) == math.inf


def test_a_norm_object_stands_where_it_says() -> None:
    setting = config()
    data = build_data(setting, 0)
    task = build_task(setting, data, parse_norm("bn-timestep").without("cell"), 0)
    assert set(task.recurrent.norm.places) == {"input", "hidden"}


def test_losses_by_step_are_those_of_the_task() -> None:
    task, data, _ = trained("bn-timestep")
    with statistics(task, "running"):
        by_step = losses_by_step(task, data.test_dataloader())
        loss, accuracy = evaluate(task, data.test_dataloader())
    assert by_step.shape == (6,)
    assert float(by_step.mean()) == pytest.approx(loss, rel=1e-5)
    assert 0 <= accuracy <= 1


def test_first_batches_can_be_skipped() -> None:
    task, data, _ = trained("none")
    batches = list(data.test_dataloader())
    both = losses_by_step(task, batches[:2])
    first, second = losses_by_step(task, batches[:1]), losses_by_step(task, batches[:2], skip=1)
    torch.testing.assert_close(both, (first + second) / 2)
    with pytest.raises(ValueError, match="more than 2 batches"):
        losses_by_step(task, batches[:2], skip=2)


def test_ragged_batches_have_no_losses_by_step() -> None:
    setting = config()
    setting["data"] = {"class_path": "TemporalOrder", "init_args": {"num_train": 4, "num_val": 1, "num_test": 4}}
    data = build_data(setting, 0)
    with pytest.raises(ValueError, match="one per row"):
        losses_by_step(build_task(setting, data, "none", 0), data.test_dataloader())


def test_carrying_says_which_batches_continue() -> None:
    batches = list(build_data(config(), 0).val_dataloader())
    assert [b.continues for b in carrying(batches, True)] == [False, True, True]
    assert not any(b.continues for b in carrying(batches, False))


def test_final_is_the_last_tenth() -> None:
    assert final([5.0] * 18 + [1.0, 2.0]) == 1.5
    assert final([3.0]) == 3.0
    with pytest.raises(ValueError, match="no training step"):
        final([])


def test_no_data_module_is_an_error() -> None:
    with pytest.raises(ValueError, match="class_path is missing"):
        build_data({"data": {}}, 0)
