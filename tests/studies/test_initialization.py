"""The study of initial weights: derived quantities, findings, invariances, the scaling itself, a tiny real run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from studies.tables import made, reread

import rnnnorm
from rnnnorm.studies.data.plain_training import build_data, build_task
from rnnnorm.studies.data.surgery import blank_loss, bounded_training, scale_weights, start_from_data
from rnnnorm.studies.framework.compose import save_figure
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.settings import Settings, load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.initialization import Initialization
from rnnnorm.studies.measures.rescaling import CHANGES, FACTOR, PUBLISHED, deviations, products

SCALES = (0.1, 1.0, 10.0)


def study(quick: bool = True) -> Initialization:
    return Initialization(load("initialization", quick=quick))


def table(agrees: bool) -> pd.DataFrame:
    """A world in which the claims hold, or do not."""

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        if trial.conditions["part"] == "invariance":
            kind = trial.norm.split("-")[0]
            for change in CHANGES:
                small = (kind in PUBLISHED[change]) is agrees
                value = (1e-5 if small else 1.0) * (1 + 0.01 * trial.seed)
                yield {"quantity": "deviation", "change": change, "value": value}
            return
        fragile = trial.norm in ("none", "wn") if agrees else trial.norm not in ("none", "wn")
        for scale in SCALES:
            here = {"scale": scale, "learning_rate": 0.01}
            loss = 0.2 + (0.8 if fragile and scale == 10 else 0.0) + 1e-3 * trial.seed
            yield {**here, "quantity": "loss", "value": loss}
            yield {**here, "quantity": "blank_loss", "value": 1.4}
            yield {**here, "quantity": "diverged", "value": float(fragile and scale == 10)}
            if trial.conditions["cell"] == "rnn-tanh":
                yield {**here, "quantity": "saturated", "value": 0.9 if fragile else 0.1}

    return made(study().trials(), rows)


def test_changes_that_should_be_visible_are_judged_the_other_way_round() -> None:
    (found,) = (verdict for verdict in study().judge(table(True)) if verdict.claim.key == "invariances")
    assert len(found.cases) == 6 * 5
    assert {case.below for case in found.cases if "not invariant" in case.condition} == {False}
    below = {case.condition for case in found.cases if case.below}
    assert len(below) == sum(map(len, PUBLISHED.values()))
    assert {"data shifted, bn-timestep", "one case × 3, ln", "weight matrix shifted, ln"} <= below


def test_batch_normalization_between_timesteps_stands_in_the_table() -> None:
    heads = {verdict.claim.key: verdict.headline.condition for verdict in study().judge(table(True))}
    assert heads == {
        "invariances": "weight matrix × 3, bn-timestep",
        "resilient": "bn-timestep, LSTM",
        "careful": "bn-timestep, LSTM",
        "saturating": "bn-timestep, LSTM, weights × 10",
        "data-dependent": "wn:init=data, LSTM",
    }


def test_what_learns_nothing_anywhere_is_not_robust() -> None:
    made_up = table(True)
    stuck = (made_up["norm"] == "bn-timestep") & (made_up["quantity"] == "loss")
    made_up.loc[stuck, "value"] = 1.4
    careful = next(v for v in study().judge(made_up) if v.claim.key == "careful")
    assert careful.headline.condition.startswith("bn-timestep")
    assert careful.headline.standing in ("opposite", "negligible")


@pytest.mark.parametrize("agrees", [True, False])
def test_panels_and_findings(agrees: bool, tmp_path: Path) -> None:
    made_up = reread(table(agrees), tmp_path)
    panels = study().panels(made_up)
    assert len(panels) == 4
    save_figure(panels, tmp_path, study().question)
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    text = " ".join(study().findings(made_up))
    assert ("0.80 (none)" if agrees else "0.80 (ln)") in text
    assert ("90% (none)" if agrees else "10% (none)") in text
    assert f"with the loss of logits of 0: LSTM with {'none' if agrees else 'ln'} (3), " in text


def test_spreads_are_over_scales_at_their_best_learning_rates() -> None:
    here = {"part": "trained", "cell": "lstm", "norm": "ln", "quantity": "loss"}
    losses = {(1.0, 0.1, 0): 1.0, (1.0, 0.2, 0): 0.5, (3.0, 0.1, 0): 0.7, (3.0, 0.2, 0): 0.9}
    rows = pd.DataFrame(
        [{**here, "scale": s, "learning_rate": r, "seed": k, "value": v} for (s, r, k), v in losses.items()]
    )
    found = study().derived(rows).groupby("quantity")["value"].agg(list)
    assert found["loss"] == [0.5, 0.7]
    assert (found["worst"], found["spread"], found["largest"]) == ([0.7], [pytest.approx(0.2)], [0.7])


def test_noise_at_five_scales_is_no_sensitivity() -> None:
    """The maximum over five scales minus the minimum is 2.3 times the noise of a loss, and above 0 for every seed."""
    noise = np.random.default_rng(1).normal(1.0, 0.1, size=(40, 5))
    here = {"part": "trained", "cell": "lstm", "norm": "ln", "quantity": "loss", "learning_rate": 0.01}
    rows = [{**here, "scale": float(k), "seed": s, "value": noise[s, k]} for s in range(40) for k in range(5)]
    spread = where(study().derived(pd.DataFrame(rows)), quantity="spread")["value"]
    assert len(spread) == 40
    assert abs(spread.mean()) < 0.05
    assert (noise.max(1) - noise.min(1)).mean() > 0.2


def test_points_of_the_table_of_invariances_stand_side_by_side() -> None:
    shown = where(study().derived(table(True)), quantity="shown")
    places = shown.groupby(["change", "norm"])["place"].first()
    assert len(set(places)) == 6 * 5
    for number, change in enumerate(CHANGES):
        assert places[change].mean() == pytest.approx(number)
        assert places[change].max() < number + 0.5


def test_unnormalized_products_change_as_linear_maps_do() -> None:
    found = dict(deviations("none", 16, 4, 8, 0))
    assert found["matrix"] == pytest.approx(FACTOR - 1)
    assert found["data"] == pytest.approx(FACTOR - 1)
    assert found["case"] < FACTOR - 1
    assert all(value > 0.05 for value in found.values())


def test_measuring_one_change_leaves_nothing_to_the_next() -> None:
    whole = dict(deviations("bn-timestep", 16, 4, 8, 0))
    assert dict(deviations("bn-timestep", 16, 4, 8, 0)) == whole
    assert whole["shift"] < 1e-12  # after weights were changed and changed back
    assert whole["case"] > 0.01


def test_products_of_layer_normalization() -> None:
    torch.manual_seed(0)
    lstm = rnnnorm.LSTM(5, 4, norm="rms", dtype=torch.float64)
    rows = torch.randn(6, 5, dtype=torch.float64)
    gates = (rows @ lstm.weight_ih_l0.T).detach()
    found = products(lstm, rows, 3)
    ratio = found / gates
    assert found.square().mean(1).sqrt() == pytest.approx(found.square().mean(1).sqrt().mean().expand(6), rel=1e-3)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))


@pytest.mark.parametrize("norm", ["none", "wn"])
def test_weights_are_scaled_and_biases_are_not(norm: str) -> None:
    lstm = rnnnorm.LSTM(3, 4, 2, bidirectional=True, norm=norm)
    names = [name + suffix for name in ("weight_ih", "weight_hh", "bias_ih") for suffix in lstm.all_suffixes()]
    before = {name: getattr(lstm, name).detach().clone() for name in names}
    scale_weights(lstm, 2.5)
    for name, old in before.items():
        expected = old if name.startswith("bias") else 2.5 * old
        torch.testing.assert_close(getattr(lstm, name).detach(), expected)


def test_the_length_of_a_direction_means_nothing() -> None:
    lstm = rnnnorm.LSTM(3, 4, norm="wn")
    before = lstm.weight_hh_l0.detach().clone()
    v = lstm.get_parameter("parametrizations.weight_hh_l0.original1").detach().clone()
    scale_weights(lstm, 7.0, direction_only=True)
    torch.testing.assert_close(lstm.weight_hh_l0.detach(), before)
    torch.testing.assert_close(lstm.get_parameter("parametrizations.weight_hh_l0.original1").detach(), 7 * v)


def test_scales_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0, got -1"):
        scale_weights(rnnnorm.LSTM(3, 4), -1)
    with pytest.raises(ValueError, match="weight_ih_l0 has no direction"):
        scale_weights(rnnnorm.LSTM(3, 4, norm="ln"), 2.0, direction_only=True)


SIZES = {"num_train": 32, "num_val": 1, "num_test": 1, "length_distribution": "fixed", "max_length": 8}
CONFIG = {
    "data": {"class_path": "rnnnorm.studies.data.running_order.RunningOrder", "init_args": {**SIZES, "batch_size": 16}},
    "model": {"init_args": {"hidden_size": 6}},
    "trainer": {"max_epochs": 2},
}


def test_the_loss_of_saying_nothing_changes_nothing() -> None:
    data = build_data(CONFIG, 0)
    task = build_task({"model": {"init_args": {"hidden_size": 6, "dropout": 0.5}}}, data, "wn:init=data", 0)
    batch = next(iter(data.train_dataloader()))
    start_from_data(task, batch)
    assert not task.recurrent.needs_data
    state, random = {k: v.clone() for k, v in task.state_dict().items()}, torch.get_rng_state()
    assert blank_loss(task, batch) == pytest.approx(float(torch.log(torch.tensor(4.0))))  # four classes
    assert task.training
    assert all(torch.equal(value, state[key]) for key, value in task.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_losses_of_a_training_that_goes_wrong_are_bounded() -> None:
    data = build_data(CONFIG, 0)
    config = {**CONFIG, "model": {"init_args": {"hidden_size": 6, "learning_rate": 1e4}}}
    found = bounded_training(build_task(config, data, "none", 0), data, config)
    assert found["loss"] == found["blank_loss"] == pytest.approx(float(torch.log(torch.tensor(4.0))))
    config["model"]["init_args"]["learning_rate"] = 0.0
    found = bounded_training(build_task(config, data, "none", 0), data, config, max_steps=1)
    assert found["diverged"] == 0
    assert found["loss"] == min(found["first_loss"], found["blank_loss"])


def test_a_tiny_run() -> None:
    options = {
        "scales": [1.0, 30.0],
        "cells": ["rnn-tanh"],
        "learning_rates": [0.01],
        "invariant_norms": ["ln"],
        "hidden_size": 8,
        "steps": 3,
    }
    tiny = Initialization(Settings((0,), ("wn:init=data", "bn-timestep"), options, CONFIG))
    measured = made(tiny.trials(), lambda trial: list(tiny.measure(trial, None)))
    assert len(measured[measured["quantity"] == "deviation"]) == 6
    assert len(measured[measured["quantity"] == "loss"]) == 6
    share = measured[measured["quantity"] == "saturated"].set_index(["norm", "scale"])["value"]
    assert share["none", 30.0] > share["none", 1.0]
    assert share["bn-timestep", 30.0] == pytest.approx(share["bn-timestep", 1.0], abs=0.02)
    assert share["wn:init=data", 30.0] < share["none", 30.0]
