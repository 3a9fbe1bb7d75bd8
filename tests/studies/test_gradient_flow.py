"""Does the gradient explode between timesteps? Verdicts on made-up tables, Yang's formula, strokes, one small run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from studies.tables import made, run_tiny, verdicts

from rnnnorm.studies.data.pixels import PICTURES, SIDE, pixels, strokes
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.settings import Settings, load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.gradient_flow import GradientFlow
from rnnnorm.studies.measures.gradients import ALIVE, yang

pytestmark = pytest.mark.filterwarnings("ignore")

CLAIMS = ("yang", "explodes", "vertical", "vanishes")


@pytest.fixture(scope="module")
def quick() -> GradientFlow:
    return GradientFlow(load("gradient-flow", quick=True))


def table(flow: GradientFlow, says: dict[str, bool | None]) -> pd.DataFrame:
    """What the trials might measure if each claim were true, false or, None, true in some places only."""

    def pick(claim: str, first: bool, true: float, false: float) -> float:
        return {True: true, False: false, None: true if first else false}[says[claim]]

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        c, jitter = trial.conditions, 1 + 1e-4 * math.sin(7 * trial.seed)
        if c["part"] == "batch":
            factor = yang(float(c["batch"])) if c["batch"] != 3 else 3.0
            yield {
                "quantity": "growth",
                "value": factor ** (jitter * pick("yang", c["cell"] == "rnn-identity", 1, 1.3)),
            }
        if c["part"] == "gain":
            yield {"quantity": "growth", "value": jitter * pick("explodes", c["cell"] == "lstm", 1.2, 0.9)}
        if c["part"] == "norm":
            yield {"quantity": "growth", "value": 0.95 * jitter}
        if c["part"] == "layers":
            yield {"quantity": "layer_growth", "value": jitter * pick("vertical", True, 1.0, 1.5)}
            yield {"quantity": "growth", "value": jitter * pick("vertical", False, 1.0, 1.5)}
        if c["part"] == "pixels":
            lost = -60.0 if c["gain"] == 1.0 else -1.0
            turned = -1.0 if c["gain"] == 1.0 else -60.0
            yield {"quantity": "decades", "value": jitter * pick("vanishes", c["W_hh"] == "identity", lost, turned)}
            for t in (0, 391, 783):
                yield {"quantity": "gradient_norm", "t": t, "value": 10 ** (-t / 100) * jitter}
        if c["part"] == "trained":
            yield {"quantity": "diverged", "value": float(trial.norm == "wn")}
            if trial.norm != "wn":
                yield {"quantity": "growth", "value": 0.98 * jitter}
                for t in range(4):
                    yield {"quantity": "gradient_norm", "t": t, "value": 0.9**t * jitter}

    return made(flow.trials(), rows)


def with_growth(flow: GradientFlow, exponent: float) -> pd.DataFrame:
    """A table in which linear networks grow by Yang's factor to some power; 0: not at all."""
    m = table(flow, dict.fromkeys(CLAIMS, True))
    chosen = (m["part"] == "batch") & (m["quantity"] == "growth")
    m.loc[chosen, "value"] = [yang(size) ** exponent if size > 3 else 9.0 for size in m.loc[chosen, "batch"]]
    return m


@pytest.mark.parametrize(("exponent", "verdict"), [(0.95, "supported"), (0.0, "refuted"), (1.2, "refuted")])
def test_a_tenth_of_the_logarithm_decides_on_yangs_formula(quick: GradientFlow, exponent: float, verdict: str) -> None:
    """No growth at all is within 2 % of the formula's factor from B = 32 on, and yet none of its growth."""
    assert verdicts(quick, with_growth(quick, exponent))["yang"] == verdict


def test_small_batches_count_and_the_share_is_shown_against_batch_over_width(quick: GradientFlow) -> None:
    m = with_growth(quick, 0.5)
    case = next(verdict for verdict in quick.judge(m) if verdict.claim.key == "yang")
    assert any(condition.condition.endswith("H = 100, B = 4") for condition in case.cases)
    assert not any(condition.condition.endswith("B = 3") for condition in case.cases)
    share = where(quick.derived(m), quantity="share")
    assert share["value"].tolist() == pytest.approx([0.5] * len(share))
    assert share["ratio"].max() == 4.0


def test_full_runs_measure_several_widths_and_quick_ones_one() -> None:
    for small, widths in ((True, {100}), (False, {50, 100, 400})):
        trials = GradientFlow(load("gradient-flow", quick=small)).trials()
        assert {trial.conditions["width"] for trial in trials if trial.conditions["part"] == "batch"} == widths


def test_pixels_are_judged_by_what_the_gain_changes_under_both_forms(quick: GradientFlow) -> None:
    """A gradient that fades by 70 decades with gain 0.1, too, but by 130 with gain 1, obeys the sign of the claim."""
    m = table(quick, dict.fromkeys(CLAIMS, True))
    chosen = (m["quantity"] == "decades") & (m["norm"] == "bn-timestep")
    m.loc[chosen, "value"] -= 70
    verdict = next(verdict for verdict in quick.judge(m) if verdict.claim.key == "vanishes")
    assert verdict.verdict == "supported"
    assert len(verdict.cases) == 4
    assert "With a gain of 0.1, by seed, W_hh and form, ‖∂L/∂h_0‖ is −71 to −1 decades" in " ".join(quick.findings(m))


def test_the_findings_say_what_the_numbers_say(quick: GradientFlow) -> None:
    usual = " ".join(quick.findings(table(quick, dict.fromkeys(CLAIMS, True))))
    assert "gain of 1 and identity W_hh the gradient vanishes over 784 pixels: 60 decades down" in usual
    assert "orthogonal W_hh the gradient vanishes" in usual
    turned = " ".join(quick.findings(table(quick, dict.fromkeys(CLAIMS, True) | {"vanishes": False})))
    assert "identity W_hh the gradient survives over 784 pixels: 1 decades down" in turned
    m = table(quick, dict.fromkeys(CLAIMS, True))
    m.loc[m["quantity"] == "decades", "value"] = 20.0
    assert "explodes over 784 pixels: 20 decades up" in " ".join(quick.findings(m))
    assert "0.980 (ln)" in usual
    assert "wn" not in usual.split("After training")[1].split(" trainings diverged")[0]
    assert "trainings diverged: wn" in usual


@pytest.mark.parametrize(("size", "factor"), [(4, 2**0.5), (5, 1.5**0.5), (8, 1.0954), (32, 1.0171), (400, 1.00126)])
def test_yangs_formula(size: int, factor: float) -> None:
    assert yang(size) == pytest.approx(factor, abs=1e-4)
    assert yang(size) ** 2 == pytest.approx((size - 2) / (size - 3))


def test_yangs_formula_has_a_pole() -> None:
    assert yang(3) == math.inf
    assert yang(3.001) > 30


@pytest.fixture(scope="module")
def small() -> GradientFlow:
    options = dict(load("gradient-flow", quick=True).options) | {"steps": 60, "hidden_size": 100}
    return GradientFlow(Settings((0,), ("none",), options, {}))


def growths(flow: GradientFlow, size: int, cell: str, gain: float, seeds: int) -> list[float]:
    conditions = {"part": "batch", "cell": cell, "gain": gain, "batch": size, "input": "no", "steps": 80}
    return [
        float(row["value"])
        for seed in range(seeds)
        for row in flow.measure(Trial(conditions, "bn-timestep", seed), None)
        if row["quantity"] == "growth"
    ]


@pytest.mark.parametrize("size", [8, 32])
def test_a_linear_network_grows_as_the_formula_says(small: GradientFlow, size: int) -> None:
    assert np.mean(growths(small, size, "rnn-identity", 1.0, 4)) == pytest.approx(yang(size), rel=0.02)


def test_so_does_a_tanh_network_that_is_hardly_bent(small: GradientFlow) -> None:
    assert np.mean(growths(small, 8, "rnn-tanh", 0.01, 4)) == pytest.approx(yang(8), rel=0.02)


def test_a_trial_measures_the_same_every_time(small: GradientFlow) -> None:
    first = growths(small, 8, "rnn-tanh", 1.0, 1)
    torch.manual_seed(123)
    assert growths(small, 8, "rnn-tanh", 1.0, 1) == first


def test_strokes_have_a_black_border_and_bright_smooth_lines() -> None:
    drawn = strokes(20, 0)
    assert drawn.shape == (SIDE * SIDE, 20, 1)
    assert drawn.dtype == torch.float64
    pictures = drawn.squeeze(2).T.reshape(20, SIDE, SIDE)
    inner = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inner[4:24, 4:24] = True
    assert (pictures[:, ~inner] == 0).all()
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert (pictures.amax((1, 2)) > 0.5).all()
    share = (pictures > 0.1).double().mean((1, 2))
    assert ((share > 0.02) & (share < 0.5)).all()


def test_strokes_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    first = strokes(5, 3)
    assert torch.equal(first, strokes(5, 3))
    assert not torch.equal(first, strokes(5, 4))
    assert len({tuple(one.flatten().tolist()) for one in first.unbind(1)}) == 5
    assert torch.equal(pixels(5, 3, None), first)


@pytest.mark.parametrize(("seed", "first"), [(0, 0), (3, 300), (598, 59_800), (599, 0), (1039, 44_000), (5039, 24_700)])
def test_every_seed_has_its_pictures(seed: int, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Numbered:
        def __init__(self, num_train: int, **keys: Any) -> None:
            assert num_train + keys["num_val"] <= PICTURES
            self.count = num_train

        def examples(self, split: str) -> list[tuple[torch.Tensor, int]]:
            return [(torch.tensor([[float(number)]]), 0) for number in range(self.count)]

    monkeypatch.setattr("rnnnorm.data.SequentialMNIST", Numbered)
    assert pixels(100, seed, "data").flatten().tolist() == [*range(first, first + 100)]


def test_a_tiny_run(tmp_path: Path) -> None:
    settings = (
        "seeds: 2\nnorms: [none, ln]\n"
        "options: {batch_sizes: [8], gains: [0.1, 1.0], hidden_size: 8, widths: [4], formula_seeds: 2, steps: 20,"
        " long_gains: [1.0], layers: 2, trained_norms: [bn-timestep]}\n"
        "model: {init_args: {hidden_size: 4}}\ntrainer: {max_epochs: 1, limit_train_batches: 3}\n"
    )
    m = run_tiny("gradient-flow", settings, tmp_path)
    assert {"batch", "gain", "norm", "pixels", "layers", "trained"} == set(m["part"])
    assert (where(m, quantity="growth")["value"] > 0).all()
    lost = where(m, quantity="decades", W_hh="identity", gain=1.0)["value"]
    assert len(lost) == 4  # two seeds, two forms
    assert (lost < ALIVE).all()
    after = where(m, part="trained", quantity="gradient_norm", norm="bn-timestep", seed=0)
    assert after["t"].tolist() == list(range(60))
    assert (after["value"] > 0).all()
