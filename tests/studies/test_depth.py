"""The study of depth: derived quantities, findings, stacks and their growth, a tiny real run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from studies.tables import made, reread

from rnnnorm.studies.data.residual_stacks import METHODS, arguments, build_stack, growth, moments
from rnnnorm.studies.depth import Depth, deepest
from rnnnorm.studies.framework.compose import save_figure
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.settings import Settings, load
from rnnnorm.studies.framework.trial import Trial

DEEP = {"plain", "skipinit-1", "no-skip"}
"""Methods that fail at depth in the world of the literature."""


def study(quick: bool = True) -> Depth:
    return Depth(load("depth", quick=quick))


def table(agrees: bool) -> pd.DataFrame:
    """A world in which the claims hold, or do not."""

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        method = str(trial.conditions["method"])
        if trial.conditions["part"] == "start":
            for block in range(1, 65):
                linear = (method == "bn-branch") is agrees
                square = (block + 1.0 if linear else 2.0**block) * (1 + 0.01 * trial.seed)
                yield {"quantity": "square", "block": block, "value": square}
                share = 1 / (block + 1) if linear else 0.5
                yield {"quantity": "share", "block": block, "value": share + 1e-4 * trial.seed}
            return
        depth = int(trial.conditions["depth"])
        stuck = depth > 2 and method in (DEEP if agrees else {"no-skip", "skipinit-0", "skipinit-depth", "fixup"})
        rates = study().settings.option("learning_rates")[trial.conditions["optimizer"]]
        for k, rate in enumerate(rates):
            loss = (2.0 if stuck else 1.0) + 0.3 * k + 1e-3 * trial.seed
            here = {"learning_rate": rate}
            yield {**here, "quantity": "loss", "value": loss}
            yield {**here, "quantity": "blank_loss", "value": 2.3}
            yield {**here, "quantity": "first_loss", "value": 2.5}
            yield {**here, "quantity": "diverged", "value": float(stuck)}

    return made(study().trials(), rows)


def test_growth_is_taken_over_the_second_half() -> None:
    found = study().derived(table(True))
    means = found.groupby(["quantity", "method"])["value"].mean()
    assert means["factor", "plain"] == pytest.approx(2.0)  # 2^l, by every block
    assert means["off_linear", "plain"] == pytest.approx(31.0)  # 2^64 / 2^32 = 2^32
    assert means["off_linear", "bn-branch"] == pytest.approx(1 - 0.9775, abs=1e-3)  # log2(65 / 33)
    assert means["last_share", "bn-branch"] == pytest.approx(1 / 65, abs=2e-4)


def test_losses_that_count_are_those_of_the_two_greatest_depths_at_the_best_rate() -> None:
    found = where(study().derived(table(True)), quantity="deep_loss")
    assert set(found["depth"]) == {6, 24}
    assert set(found["learning_rate"]) == {0.01}


def test_a_study_of_which_only_training_was_measured_has_no_blocks(tmp_path: Path) -> None:
    made_up = table(True)
    trained = made_up[made_up["part"] == "trained"].drop(columns="block")
    assert len(study().panels(trained)) == 2
    assert len(study().findings(trained)) == 6


@pytest.mark.parametrize("agrees", [True, False])
def test_panels_and_findings(agrees: bool, tmp_path: Path) -> None:
    made_up = reread(table(agrees), tmp_path)
    panels = study().panels(made_up)
    assert len(panels) == 4
    save_figure(panels, tmp_path, study().question)
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    text = " ".join(study().findings(made_up))
    assert (": skip: 2," in text) is agrees  # not trainable beyond two layers
    assert "BN on branch: 24" in text
    told = "144 of 576 trainings diverged and count with the loss of logits of 0: skip (48), no skip (48), SkipInit α ="
    assert (told in text) is agrees
    assert "LSTM: after 64 blocks E[h²] is " in text


def test_the_deepest_trainable() -> None:
    losses = {("plain", 2): 1.0, ("plain", 8): 1.05, ("plain", 32): 2.0, ("fixup", 2): 1.2, ("fixup", 8): 1.3}
    here = {"cell": "lstm", "optimizer": "sgd", "norm": "none", "seed": 0}
    found = deepest(pd.DataFrame([{**here, "method": k, "depth": d, "value": v} for (k, d), v in losses.items()]))
    assert dict(zip(found["method"], found["value"], strict=True)) == {"plain": 8, "fixup": 0}
    assert set(found["depths"]) == {"2, 8, 32"}


@pytest.mark.parametrize("method", METHODS)
def test_second_moments_are_those_of_the_network(method: str) -> None:
    torch.manual_seed(0)
    network = build_stack("lstm", method, "none", 6, 3, 4)
    x = torch.randn(4, 5, 6, dtype=torch.float64)
    found = list(moments(network, x.view(20, 6), torch.full((4,), 5)))
    output, _ = network(x)
    assert found[-1][0] == pytest.approx(float(output.detach().square().mean()))
    assert len(found) == 3


def test_the_share_is_that_of_the_branch() -> None:
    torch.manual_seed(0)
    network = build_stack("rnn-relu", "plain", "none", 6, 1, 1)
    x = torch.randn(8, 6, dtype=torch.float64)
    (square, share) = next(moments(network, x, torch.tensor([8])))
    branch = torch.relu(x @ network.weight_ih_l0.T).detach()
    assert square == pytest.approx(float((x + branch).square().mean()))
    assert share == pytest.approx(float(branch.square().mean()) / square)


def test_growth_is_the_geometric_mean_over_draws() -> None:
    sizes = {"size": 6, "depth": 2, "batch": 3, "steps": 4, "seed": 5}
    found = list(growth("lstm", "plain", "none", draws=2, **sizes))
    torch.manual_seed(5)
    squares, shares = [], []
    for _ in range(2):
        rows = torch.randn(12, 6, dtype=torch.float64)
        network = build_stack("lstm", "plain", "none", 6, 3, 4)
        square, share = zip(*moments(network, rows, torch.full((4,), 3)), strict=True)
        squares.append(square)
        shares.append(share)
    assert [block for block, _, _ in found] == [1, 2]
    for block, square, share in found:
        assert square == pytest.approx((squares[0][block - 1] * squares[1][block - 1]) ** 0.5)
        assert share == pytest.approx((shares[0][block - 1] + shares[1][block - 1]) / 2)


def test_relu_layers_keep_the_second_moment() -> None:
    torch.manual_seed(0)
    network = build_stack("rnn-relu", "no-skip", "none", 512, 3, 1)
    x = torch.randn(64, 512, dtype=torch.float64)
    assert [square for square, _ in moments(network, x, torch.tensor([64]))] == pytest.approx([1.0] * 3, rel=0.15)


def test_zero_alpha_is_the_identity() -> None:
    torch.manual_seed(0)
    network = build_stack("lstm", "skipinit-0", "none", 6, 5, 4)
    x = torch.randn(4, 5, 6, dtype=torch.float64)
    assert torch.equal(network(x)[0], x)


def test_a_norm_inside_stays_beside_the_one_between() -> None:
    places = arguments("bn-branch", "ln")["norm"].places
    assert list(places) == ["input", "hidden", "cell", "between"]
    with pytest.raises(ValueError, match="skipinit-depth"):
        arguments("skipinit", "none")


def test_a_tiny_run() -> None:
    options = {
        "start_cells": ["rnn-relu"],
        "start_depth": 4,
        "start_size": 8,
        "start_batch": 16,
        "start_draws": 2,
        "steps": 3,
        "cells": ["rnn-relu"],
        "depths": [2, 3],
        "learning_rates": {"sgd": [0.05, 1e6]},
        "max_steps": 5,
    }
    sizes = {"num_train": 48, "num_val": 1, "num_test": 1, "length_distribution": "fixed", "max_length": 6}
    config = {
        "data": {"class_path": "rnnnorm.studies.data.segments.Segments", "init_args": {**sizes, "batch_size": 8}},
        "model": {"init_args": {"hidden_size": 6}},
        "trainer": {"max_epochs": 1},
    }
    tiny = Depth(Settings((0,), ("none", "wn:init=data"), options, config))
    measured = made(tiny.trials(), lambda trial: list(tiny.measure(trial, None)))
    squares = measured[(measured["quantity"] == "square") & (measured["method"] == "bn-branch")]
    assert squares["block"].tolist() == [1, 2, 3, 4]
    assert squares["value"].iloc[0] == pytest.approx(2.0, rel=0.5)
    losses = measured[measured["quantity"] == "loss"]
    assert len(losses) == 2 * 2 * 9
    blank = float(torch.log(torch.tensor(10.0)))  # ten states
    assert (losses["value"] <= blank + 1e-6).all()
    wild = losses[(losses["learning_rate"] == 1e6) & (losses["method"] == "plain")]
    assert wild["value"].tolist() == pytest.approx([blank] * len(wild))


def test_the_rate_of_a_seed_is_chosen_by_the_others() -> None:
    """Of rates that differ by noise alone the best of each seed would be lower than it is."""
    here = {"cell": "lstm", "optimizer": "sgd", "norm": "none", "method": "plain", "depth": 2, "quantity": "loss"}
    losses = {(0.1, 0): 0.0, (0.1, 1): 0.8, (0.1, 2): 0.8, (0.2, 0): 0.6, (0.2, 1): 0.6, (0.2, 2): 0.6}
    m = pd.DataFrame([{**here, "learning_rate": r, "seed": s, "value": v} for (r, s), v in losses.items()])
    found = where(Depth(load("depth", quick=True)).derived(m), quantity="loss")
    assert found.set_index("seed")["value"].to_dict() == {0: 0.6, 1: 0.8, 2: 0.8}
