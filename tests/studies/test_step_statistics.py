"""The study of step statistics: effects, advice, distances, a tiny real run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from studies.tables import made

from rnnnorm import LSTM, recalibrate
from rnnnorm.report.canvas import LIGHT
from rnnnorm.studies.framework.settings import Settings, load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.measures.step_distances import distance, distances, settled, settling
from rnnnorm.studies.step_statistics import StepStatistics


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
                level = 0.5 + 0.1 / (t + 1) + 0.2 * (trial.norm == "bn-shared")
                yield {"quantity": "loss_at", "mode": mode, "t": t, "value": level}
        if trial.norm == "bn-timestep":
            for place in ("input", "hidden", "cell")[: 3 if trial.conditions["cell"] == "yes" else 2]:
                for t in range(40):
                    value = float(t < settles + trial.seed % 2)
                    yield {"quantity": "distance", "place": place, "t": t, "value": value}

    return made(study().trials(), rows)


def test_effects_are_of_what_was_trained_and_of_what_was_not() -> None:
    """Four seeds: the jitter is 1.5e-4 in the mean, and two seeds settle a step later."""
    verdicts = {v.claim.key: v for v in study().judge(table(0.1, 0.03, 5, 0.2))}
    for case in verdicts["separate"].cases:
        expected = 0.1 if case.condition.startswith("reset") else 0.03
        assert case.effect.mean == pytest.approx(expected + 1.5e-4)
    assert len(verdicts["separate"].cases) == 2 * 2 * 2 * 2
    assert {case.effect.mean for case in verdicts["transient"].cases} == {5.5}
    assert len(verdicts["transient"].cases) == 4 + 2  # the input does not depend on the state
    assert all(case.effect.mean == pytest.approx(0.2 - 1.5e-4) for case in verdicts["trap"].cases)
    assert len(verdicts["trap"].cases) == 4


def test_headlines_are_the_papers_own_conditions() -> None:
    found = {v.claim.key: v.headline.condition for v in study().judge(table(0.1, 0.0, 5, 0.1))}
    assert found == {
        "separate": "reset state, cell norm, gain 0.1, population statistics",
        "equal": "carried state, no cell norm, gain 0.1, population statistics",
        "transient": "W_hh h, reset state, cell norm, gain 0.1",
        "trap": "trained with reset state, cell norm, gain 0.1, evaluated with carried state",
    }


@pytest.mark.parametrize(
    ("world", "sentences"),
    [
        ((0.1, 0.0, 5, 0.1), ("keep them per step", "share them there")),
        ((0.0, 0.0, 5, -0.1), ("one pair for all steps is enough", "no reason to share")),
    ],
    ids=["sharing costs", "sharing is free"],
)
def test_advice_follows_the_numbers(world: tuple[Any, ...], sentences: tuple[str, ...]) -> None:
    said = study().findings(table(*world))
    assert all(sentence in " ".join(said) for sentence in sentences)
    costs = f"{world[0] + 1.5e-4:+.3f}"
    assert (
        f"State reset, population statistics: sharing costs {costs} to {costs} nats per step over 4 conditions." in said
    )


def test_what_sharing_costs_is_drawn_along_time() -> None:
    panels = study().panels(table(0.1, 0.0, 5, 0.1))
    assert len(panels) == 4
    axes = Figure().subplots()
    panels[1].draw(axes, LIGHT)
    assert len(axes.get_legend_handles_labels()[1]) == 4  # two states, two kinds of statistics
    for line in axes.get_legend_handles_labels()[0]:
        assert np.asarray(line.get_ydata()).tolist() == pytest.approx([0.2] * 40)


@pytest.mark.parametrize("quick", [True, False])
def test_shakespeare_has_fewer_norms_gains_and_seeds(quick: bool, tmp_path: Path) -> None:
    assert {t.conditions["data"] for t in study(quick).trials()} == {"running-order"}
    real = StepStatistics(load("step-statistics", quick=quick, data_dir=str(tmp_path)))
    text = [t for t in real.trials() if t.conditions["data"] == "shakespeare"]
    assert {t.norm for t in text} == {"bn-timestep", "bn-shared"}
    assert {t.conditions["gain"] for t in text} == {0.1}
    assert len({t.seed for t in text}) == real.settings.option("shakespeare")["seeds"]


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


def test_steps_until_distances_settle_are_by_place_and_seed() -> None:
    rows = [
        {"place": place, "seed": seed, "t": t, "quantity": "distance", "value": float(t < steps + seed)}
        for place, steps in (("hidden", 2), ("cell", 4))
        for seed in (0, 1)
        for t in (7, 6, 5, 4, 3, 2, 1, 0)
    ]
    found = settled(pd.DataFrame(rows))
    assert set(found["quantity"]) == {"settled"}
    assert list(zip(found["place"], found["seed"], found["value"], strict=True)) == [
        ("hidden", 0, 2), ("hidden", 1, 3), ("cell", 0, 4), ("cell", 1, 5),
    ]  # fmt: skip
    assert len(settled(pd.DataFrame(rows).assign(quantity="loss"))) == 0


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
    assert one.findings(m) == ["1 of 1 trainings diverged: bn-shared (1)."]
    assert one.judge(m) == []


def test_data_that_do_not_continue_are_refused() -> None:
    data = {"class_path": "TemporalOrder", "init_args": {"num_train": 40, "num_val": 4, "num_test": 4}}
    one = StepStatistics(
        Settings((0,), ("bn-shared",), {"gains": [0.1], "recalibration": 4}, {**TINY, "data": data}, own=True)
    )
    with pytest.raises(ValueError, match=r"batches continue each other, .* got TemporalOrder"):
        list(one.measure(one.trials()[0], None))
