"""The study of step statistics: verdicts on made tables, distances, a tiny real run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from studies.tables import made, reread, verdicts

from rnnnorm import LSTM, recalibrate
from rnnnorm.studies.framework.plots import save_figure
from rnnnorm.studies.framework.settings import Settings, load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.measures.step_distances import distance, distances, settling
from rnnnorm.studies.step_statistics import StepStatistics

CLAIMS = {"separate", "equal", "transient", "trap"}


def study(quick: bool = True) -> StepStatistics:
    return StepStatistics(load("step-statistics", quick=quick))


def table(shared: float, carried: float, settles: int, trap: float) -> pd.DataFrame:
    """A world: what sharing costs with reset and with carried state, steps of the transient, what the trap costs."""

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        state, jitter = str(trial.conditions["state"]), 1e-4 * trial.seed
        yield {"quantity": "diverged", "value": 0.0}
        for mode in ("population", "running", "batch"):
            for read in ("reset", "carried"):
                loss = 0.5 + jitter * (trial.norm == "bn-shared")
                if read == state and trial.norm == "bn-shared":
                    loss += shared if state == "reset" else carried
                if read != state and trial.norm == "bn-timestep":
                    loss += trap
                yield {"quantity": "loss", "mode": mode, "read": read, "value": loss}
            for t in range(40):
                yield {"quantity": "loss_at", "mode": mode, "t": t, "value": 0.5 + jitter + 0.1 / (t + 1)}
        if trial.norm == "bn-timestep":
            for place in ("hidden", "cell")[: 2 if trial.conditions["cell"] == "yes" else 1]:
                for t in range(40):
                    value = float(t < settles + trial.seed % 2)
                    yield {"quantity": "distance", "place": place, "t": t, "value": value}

    return made(study().trials(), rows)


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        (
            {"shared": 0.1, "carried": 0.1, "settles": 5, "trap": 0.1},
            {"separate": "supported", "equal": "contradicted", "transient": "supported", "trap": "supported"},
        ),
        (
            {"shared": 0.0, "carried": 0.0, "settles": 17, "trap": -0.1},
            {"separate": "contradicted", "equal": "supported", "transient": "contradicted", "trap": "contradicted"},
        ),
        (
            {"shared": 0.1, "carried": 0.0, "settles": 5, "trap": 0.1},
            {"separate": "depends", "equal": "supported", "transient": "supported", "trap": "supported"},
        ),
    ],
    ids=["textbook", "opposite", "both are right"],
)
def test_verdicts_follow_the_numbers(world: dict[str, Any], expected: dict[str, str], tmp_path: Path) -> None:
    made_up = table(**world)
    found = verdicts(study(), made_up)
    assert found == expected
    assert verdicts(study(), reread(made_up, tmp_path)) == found


def test_headlines_are_the_papers_own_conditions() -> None:
    found = {v.claim.key: v.headline.condition for v in study().judge(table(0.1, 0.0, 5, 0.1))}
    assert found["separate"] == "reset state, cell norm, gain 0.1, population statistics"
    assert found["equal"] == "carried state, no cell norm, gain 0.1, population statistics"


@pytest.mark.parametrize(
    ("world", "sentence"),
    [((0.1, 0.0, 5, 0.1), "keep them per step"), ((0.0, 0.0, 5, 0.1), "one pair for all steps is enough")],
    ids=["sharing costs", "sharing is free"],
)
def test_advice_follows_the_numbers(world: tuple[Any, ...], sentence: str) -> None:
    assert sentence in " ".join(study().findings(table(*world)))


def test_panels_draw(tmp_path: Path) -> None:
    made_up = reread(table(0.1, 0.0, 5, 0.1), tmp_path)
    save_figure(study().panels(made_up), tmp_path, study().question)
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_other_norms_leave_verdicts_out(tmp_path: Path) -> None:
    made_up = table(0.1, 0.0, 5, 0.1)
    made_up = made_up[made_up["norm"] == "bn-window"]
    assert study().judge(made_up) == []
    save_figure(study().panels(made_up), tmp_path, "?")


@pytest.mark.parametrize("quick", [True, False])
def test_trials_are_unique_and_have_seeds(quick: bool, tmp_path: Path) -> None:
    trials = study(quick).trials()
    assert len({(t.arm, t.norm, t.seed) for t in trials}) == len(trials)
    assert len({t.seed for t in trials}) >= 3
    assert {t.conditions["data"] for t in trials} == {"running-order"}
    real = StepStatistics(load("step-statistics", quick=quick, data_dir=str(tmp_path))).trials()
    assert {t.conditions["data"] for t in real} == {"running-order", "shakespeare"}
    assert len({(t.arm, t.norm, t.seed) for t in real}) == len(real)


def test_norms_without_a_cell_or_a_gain_have_fewer_arms() -> None:
    few = StepStatistics(load("step-statistics", quick=True, norms="none,ln,bn-vertical", seeds=1)).trials()
    reset = [trial.norm for trial in few if trial.conditions["state"] == "reset"]
    count = {norm: reset.count(norm) for norm in ("none", "ln", "bn-vertical")}
    assert count == {"none": 1, "ln": 2, "bn-vertical": 2}


def test_distance_of_equal_steps_is_zero() -> None:
    mean, var = torch.randn(1, 3).expand(5, 3), torch.rand(1, 3).expand(5, 3)
    torch.testing.assert_close(distance(mean, var), torch.zeros(5, dtype=torch.float64), atol=1e-6, rtol=0)


def test_distance_agrees_with_samples() -> None:
    """Against the distance between sorted samples, which is what Wasserstein's is in one dimension."""
    random = torch.Generator().manual_seed(0)
    scales, shifts = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.0, 1.0, -1.0])
    samples = torch.randn(100_000, 3, generator=random, dtype=torch.float64) * scales + shifts
    found = distance(shifts[:, None], scales.square()[:, None])
    pooled_mean, pooled_sd = samples.mean(), samples.std()
    gaussian = torch.randn(100_000, generator=random, dtype=torch.float64) * pooled_sd + pooled_mean
    for t in range(3):
        by_samples = (samples[:, t].sort().values - gaussian.sort().values).square().mean().sqrt() / pooled_sd
        assert float(found[t]) == pytest.approx(float(by_samples), abs=0.02)


def test_a_step_without_variance_is_one_deviation_away() -> None:
    mean, var = torch.zeros(100, 2), torch.ones(100, 2)
    var[0] = 0
    assert float(distance(mean, var)[0]) == pytest.approx(1.0, abs=0.01)
    assert distance(mean, torch.zeros(100, 2)).tolist() == [0.0] * 100  # nothing varies at all


@pytest.mark.parametrize(
    ("along", "step"), [([1, 0.5, 0.05, 0, 0, 0], 2), ([0, 0, 0], 0), ([0, 0, 0, 0, 1], 5), ([0.3], 0)], ids=str
)
def test_settling(along: list[float], step: int) -> None:
    assert settling(along) == step


def test_nothing_cannot_settle() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        settling([])


def test_distances_of_a_network_are_by_place() -> None:
    lstm = LSTM(2, 4, norm="bn-timestep", max_steps=6)
    assert distances(lstm) == {}  # not recalibrated yet
    recalibrate(lstm, [torch.randn(6, 32, 2)])
    found = distances(lstm)
    assert {place: len(along) for place, along in found.items()} == {"input": 6, "hidden": 6, "cell": 6}
    assert found["hidden"][0] > max(found["hidden"][1:])  # h_0 = 0 has no variance
    shared = LSTM(2, 4, norm="bn-shared", max_steps=6)
    recalibrate(shared, [torch.randn(6, 32, 2)])
    assert distances(shared) == {}


TINY = {
    "data": {
        "class_path": "rnnnorm.studies.data.running_order.RunningOrderStream",
        "init_args": {"bptt": 6, "segments": 10, "eval_segments": 3, "batch_size": 8},
    },
    "model": {"init_args": {"hidden_size": 4}},
    "trainer": {"max_epochs": 1, "gradient_clip_val": 1.0},
}


def tiny(norms: tuple[str, ...], own: bool = False, **trainer: Any) -> pd.DataFrame:
    config = {**TINY, "trainer": {**TINY["trainer"], **trainer}}
    settings = Settings((0,), norms, {"gains": [0.1], "recalibration": 4}, config, own=own)
    one = StepStatistics(settings)
    return made(one.trials(), lambda trial: list(one.measure(trial, None)))


def test_a_tiny_run() -> None:
    m = tiny(("bn-timestep", "bn-shared", "none"))
    loss = m[m["quantity"] == "loss"]
    assert loss["value"].map(math.isfinite).all()
    stored = loss[loss["norm"] != "none"]
    same = stored.pivot_table(index=["state", "cell", "mode", "read"], columns="norm", values="value")
    batch = same.xs("batch", level="mode")
    assert batch["bn-shared"].tolist() == pytest.approx(batch["bn-timestep"].tolist())
    population = same.xs("population", level="mode")
    assert (population["bn-shared"] != population["bn-timestep"]).any()
    hidden = m[(m["quantity"] == "distance") & (m["place"] == "hidden") & (m["state"] == "reset")]
    assert hidden[hidden["t"] == 0]["value"].min() > 0.9
    assert set(m[m["quantity"] == "loss_at"]["t"]) == set(range(6))


def test_divergence_is_a_result() -> None:
    settings = {**TINY, "model": {"init_args": {"hidden_size": 4, "optimizer": "sgd", "learning_rate": 1e38}}}
    one = StepStatistics(Settings((0,), ("bn-shared",), {"gains": [0.1], "recalibration": 4}, settings))
    m = made(one.trials()[:1], lambda trial: list(one.measure(trial, None)))
    assert (m[m["quantity"] == "loss"]["value"] == math.inf).all()
    assert "1 of 1 trainings diverged." in one.findings(m)
    assert one.judge(m) == []


def test_data_that_do_not_continue_are_refused() -> None:
    data = {"class_path": "TemporalOrder", "init_args": {"num_train": 40, "num_val": 4, "num_test": 4}}
    one = StepStatistics(
        Settings((0,), ("bn-shared",), {"gains": [0.1], "recalibration": 4}, {**TINY, "data": data}, own=True)
    )
    with pytest.raises(ValueError, match=r"batches continue each other, .* got TemporalOrder"):
        list(one.measure(one.trials()[0], None))
