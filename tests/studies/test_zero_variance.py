"""The study of constant starts: verdicts on made tables, gradients against an LSTM written out, one tiny real run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from studies.tables import PLAIN, drawn, keep, made, reread, run_tiny, verdicts
from torch import Tensor

from rnnnorm.studies.data.constant_start import AFTER, symbols
from rnnnorm.studies.framework.compose import save_figure
from rnnnorm.studies.framework.measurements import collect, where
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.measures.gradients import projected_gradients
from rnnnorm.studies.zero_variance import FLAT, SKIPPED, ZeroVariance
from rnnnorm.tasks.cells import build_recurrent

pytestmark = pytest.mark.filterwarnings("ignore")

CLAIMS = ("explodes", "scaling", "noise", "training", "eps", "rounding", "skipped", "skip")
TRUE = dict.fromkeys(CLAIMS, True)
PARTS = ("eps", "noise", "norm", "trained", "rounding")


@pytest.fixture(scope="module")
def quick() -> ZeroVariance:
    return ZeroVariance(load("zero-variance", quick=True))


def table(zero: ZeroVariance, says: dict[str, bool | None]) -> pd.DataFrame:
    """What the trials might measure if each claim were true, false or, None, true in the first place only."""

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        c, jitter = trial.conditions, 1 + 1e-3 * math.sin(3 * trial.seed + len(trial.arm))

        def pick(claim: str, first: bool, true: float, false: float) -> float:
            return {True: true, False: false, None: true if first else false}[says[claim]]

        if c["part"] == "rounding":
            first = c["steps"] == 3
            shares = {"float64": pick("rounding", True, 1e-8, 0.5), "float32": pick("rounding", first, 0.99, 0.1)}
            if trial.norm == SKIPPED:
                shares = {"float64": 0.0, "float32": pick("skipped", first, 1e-6, 0.9)}
            for precision, share in shares.items():
                yield {"quantity": "rounding", "precision": precision, "value": share * jitter}
            return
        if c["part"] == "trained":
            score = pick("skip", c["clip"] == 1.0, 0.9, 0.6) if trial.norm == SKIPPED else 0.9
            if trial.norm == "bn-timestep" and not c["noise"]:
                score = pick("training", c["clip"] == 1.0, 0.5, 0.95)
            if trial.norm.startswith("bn-timestep:eps="):
                score = pick("eps", trial.norm.endswith("0.001"), 0.92, 0.6)
            yield {"quantity": "diverged", "value": 0.0}
            for mode in ("running", "population", "batch"):  # by bucket: not what is judged
                yield {"quantity": "score", "axis": "length", "low": 1, "mode": mode, "value": 0.1 * trial.seed}
            yield {"quantity": "final", "value": score * jitter}
            return
        low = c.get("gain") == 0.1
        if c["part"] == "eps":
            power = pick("scaling", low, 1.0, 0.5)
            growth = (1 if low else 2) * pick("explodes", low, 100.0, 1e-7) * (1e-2 / float(c["eps"])) ** power
        elif c["part"] == "noise":
            growth = pick("noise", low, 0.99, 3.0) if c["noise"] == 0.1 else 2.0
        elif c["part"] == "mnist":
            growth = pick("noise", False, 1.01, 3.0) if c["noise"] else pick("explodes", False, 250.0, 0.9)
        else:
            growth = 0.97
        yield {"quantity": "growth", "value": growth * jitter}
        yield {"quantity": "constant_steps", "value": 24 + trial.seed if c["part"] == "mnist" else 24}
        yield {"quantity": "finite_steps", "value": 7 if growth > 1 else 24}
        for t in range(0, 44, 11):
            yield {"quantity": "gradient_norm", "t": t, "value": growth ** -float(min(t, 24)) * jitter}

    return made(zero.trials(), rows)


def test_full_settings_are_judged_alike() -> None:
    full = ZeroVariance(load("zero-variance"))
    found = {v.claim.key: v for v in full.judge(table(full, TRUE))}
    assert {v.verdict for v in found.values()} == {"supported"}
    assert len(found["explodes"].cases) == 3 * 5  # gains × ε
    assert len(found["scaling"].cases) == 3 * 4  # pairs of neighbours
    assert [case.condition for case in found["training"].cases] == ["gradients clipped to 1", "no clipping"]
    assert len(found["eps"].cases) == 4


def test_the_border_of_mnist_is_a_case_of_its_own(tmp_path: Path) -> None:
    real = ZeroVariance(load("zero-variance", quick=True, data_dir=str(tmp_path)))
    for true, verdict in ((True, "supported"), (None, "open")):
        m = table(real, TRUE | {"explodes": true, "noise": true})
        found = {v.claim.key: v for v in real.judge(reread(m, tmp_path))}
        for key in ("explodes", "noise"):
            assert PLAIN[found[key].verdict] == verdict
            assert "MNIST's border, bn-timestep" in [case.condition for case in found[key].cases]
    assert "A batch of MNIST digits has 25 black pixels in common before the first stroke." in real.findings(m)
    save_figure(real.panels(m), tmp_path, real.question)


@pytest.mark.parametrize(("growth", "verdict"), [(1.09, "supported"), (1.11, "refuted")])
def test_flat_is_below_one_point_one(quick: ZeroVariance, growth: float, verdict: str) -> None:
    m = table(quick, TRUE)
    m.loc[(m["part"] == "noise") & (m["noise"] == 0.1) & (m["quantity"] == "growth"), "value"] = growth
    assert verdicts(quick, m)["noise"] == verdict
    assert f"flat means below {FLAT:g}" in ZeroVariance.method


@pytest.mark.parametrize(("gain", "verdict"), [(0.02, "supported"), (0.005, "refuted"), (-0.1, "refuted")])
def test_a_score_counts_from_one_percent(quick: ZeroVariance, gain: float, verdict: str) -> None:
    m = table(quick, TRUE)
    reached = (m["quantity"] == "final") & (m["norm"] == "bn-timestep")
    m.loc[reached, "value"] = 0.8 + gain * (m.loc[reached, "noise"] > 0) + 1e-4 * m.loc[reached, "seed"]
    assert verdicts(quick, m)["training"] == verdict


def test_scaling_is_the_deviation_from_one_over_eps(quick: ZeroVariance) -> None:
    m = table(quick, TRUE)
    grown = (m["quantity"] == "growth") & (m["part"] == "eps")
    for power, expected in ((1.0, 0.0), (0.5, 1 - 10**-0.5), (2.0, 9.0)):
        m.loc[grown, "value"] = m.loc[grown, "eps"] ** -power
        (found,) = (v for v in quick.judge(m) if v.claim.key == "scaling")
        assert len(found.cases) == 2 * 3
        assert [case.effect.mean for case in found.cases] == pytest.approx([expected] * 6, abs=1e-9)


def test_findings_say_what_the_numbers_say(quick: ZeroVariance) -> None:
    m = table(quick, TRUE)
    m.loc[(m["quantity"] == "growth") & (m["part"] == "eps") & (m["eps"] == 1e-5), "value"] = 123.4
    said = quick.findings(m)[1:]
    assert "With gain 0.1 and ε = 1e−5 each constant step multiplies gradients by 123, " in said[0]
    assert said[0].endswith("and float32 holds them for 7 of 24 steps.")
    assert said[1].startswith("With gain 1 ")
    assert not any("MNIST" in sentence for sentence in said)
    assert not any("diverged" in sentence for sentence in said)


def test_findings_rank_what_was_trained_and_name_what_diverged(quick: ZeroVariance) -> None:
    m = table(quick, TRUE)
    reached = m["quantity"] == "final"
    m.loc[reached & (m["norm"] == "ln"), "value"] = 0.99
    assert quick.findings(m)[0] == "Best of all by test score after a constant start: ln (0.99)."
    lost = (m["quantity"] == "diverged") & (m["norm"] == "bn-timestep") & (m["noise"] == 0) & (m["clip"] == 0)
    m.loc[lost, "value"] = 1.0
    assert "3 of 30 trainings diverged: bn-timestep (3)." in quick.findings(m)


def test_the_figure_shows_the_numbers(quick: ZeroVariance) -> None:
    m = table(quick, TRUE)
    along, against_eps, against_noise, trained = (drawn(panel) for panel in quick.panels(m))
    lines = {line.get_label(): line for line in along.lines}
    for name in ("none", "ln", "bn-timestep, ε = 1e−5", "bn-timestep, ε = 1e−5, noise 0.1 on h_0"):
        assert lines[name].get_xdata().tolist() == [0, 11, 22, 33]
    low = where(m, quantity="gradient_norm", part="eps", gain=0.1, eps=1e-5).groupby("t")["value"].mean()
    np.testing.assert_allclose(lines["bn-timestep, ε = 1e−5"].get_ydata(), low)
    (proportional,) = (line for line in against_eps.lines if line.get_label() == "∝ 1/ε")
    x, y = np.asarray(proportional.get_xdata()), np.asarray(proportional.get_ydata())
    np.testing.assert_allclose(x * y, x[0] * y[0])
    measured = where(m, quantity="growth", part="eps", gain=0.1).groupby("eps")["value"].mean()
    assert y[0] == pytest.approx(measured.iloc[0])
    by_noise = {line.get_label(): line for line in against_noise.lines}
    assert by_noise["gain 1"].get_xdata().tolist() == [0.01, 0.1, 1.0]
    names = {text.get_text() for text in trained.get_yticklabels()[::-1]}
    assert {"ln", "bn-timestep, noise 0.1", "bn-timestep, no clipping", "bn-timestep:eps=0.01"} <= names


def test_a_study_without_training_can_be_concluded(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("options: {trained: []}\nnorms: [none]\nseeds: 2\n")
    few = ZeroVariance(load("zero-variance", quick=True, own=str(tmp_path / "mine.yaml")))
    trial = few.trials()[0]
    keep([{"quantity": "growth", "value": 2.0}, {"quantity": "gradient_norm", "t": 0, "value": 1.0}], trial, tmp_path)
    m = collect(few.trials(), tmp_path, few.columns)
    assert few.verdicts(m)[0].claim.key == "explodes"
    assert few.findings(m) == []  # nothing is known of float32
    save_figure(few.panels(m), tmp_path, "?")


def test_trained_arms_are_configured_as_they_are_called(quick: ZeroVariance) -> None:
    arms = [trial for trial in quick.trials() if trial.config is not None]
    assert len(arms) == 3 * len(quick.settings.option("trained"))
    for trial in arms:
        config: Any = trial.config
        assert config["model"]["init_args"]["initial_state_noise"] == trial.conditions["noise"]
        assert config["trainer"]["gradient_clip_val"] == (trial.conditions["clip"] or None)
        assert config["data"]["class_path"].endswith("BlankStart")
    assert {trial.conditions["clip"] for trial in arms} == {0.0, 1.0}


def normalized(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """Batch normalization (Ioffe & Szegedy 2015) without a bias."""
    mean, variance = x.mean(0), ((x - x.mean(0)) ** 2).mean(0)
    return gain * (x - mean) / torch.sqrt(variance + eps)


def written_out(network: torch.nn.Module, x: Tensor, h0: Tensor, projection: Tensor, eps: float | None) -> list[float]:
    """‖∂L/∂h_t‖ of the LSTM of Cooijmans et al., equations 6 to 8, or of a plain one, written out."""
    p = dict(network.named_parameters())
    h, c, states = h0[0], torch.zeros_like(h0[0]), []
    for row in x:
        a, b = row @ p["weight_ih_l0"].T, h @ p["weight_hh_l0"].T
        if eps is not None:
            a = normalized(a, p["norms_l0.input.gain"], eps)
            b = normalized(b, p["norms_l0.hidden.gain"], eps)
        bias = sum(value for name, value in p.items() if name.startswith("bias_"))
        i, f, g, o = (a + b + bias).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        shown = c if eps is None else normalized(c, p["norms_l0.cell.gain"], eps) + p["norms_l0.cell.bias"]
        h = torch.sigmoid(o) * torch.tanh(shown)
        h.retain_grad()
        states.append(h)
    (h * projection).sum().backward()
    return [float(state.grad.norm()) for state in states]


@pytest.mark.parametrize("norm", ["none", "bn-timestep"])
def test_gradients_are_those_of_the_equations(norm: str) -> None:
    overridden = norm if norm == "none" else f"{norm}:gain=0.3:eps=0.001"
    network = build_recurrent("lstm", None, 3, 5, 1, norm=overridden, max_steps=9, init="orthogonal").double().train()
    x = torch.randn(9, 6, 3, dtype=torch.float64)
    h0, projection = torch.randn(1, 6, 5, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    start = (x, h0, projection, torch.zeros_like(h0))
    found = projected_gradients(network, *start)[0].tolist()
    assert found == pytest.approx(written_out(network, x, h0, projection, None if norm == "none" else 0.001), rel=1e-9)
    assert projected_gradients(network, *start)[0].tolist() == pytest.approx(found)  # nothing is left over


def measured(zero: ZeroVariance, norm: str = "bn-timestep", seed: int = 0, **conditions: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"gradient_norm": []}
    for row in zero.measure(Trial(conditions, norm, seed), None):
        if row["quantity"] == "gradient_norm":
            assert row["t"] == len(found["gradient_norm"])
            found["gradient_norm"].append(row["value"])
        else:
            found[row["quantity"]] = row["value"]
    return found


@pytest.fixture
def small(tmp_path: Path) -> ZeroVariance:
    (tmp_path / "small.yaml").write_text("options: {hidden_size: 8, batch_size: 8, blank: 12}\n")
    return ZeroVariance(load("zero-variance", quick=True, own=str(tmp_path / "small.yaml")))


def test_symbols_are_alike_for_as_long_as_they_should() -> None:
    x, blank = symbols(12, 8)
    assert (x.shape, blank) == ((12 + AFTER, 8, 50), 12)
    assert (x.sum(2) == 1).all()
    alike = (x == x[:, :1]).flatten(1).all(1)
    assert alike[:12].all()
    assert not alike[12:].any()


def test_growth_is_the_factor_between_neighbours(small: ZeroVariance) -> None:
    found = measured(small, part="eps", gain=0.1, eps=1e-4, noise=0.0)
    assert len(found["gradient_norm"]) == 12 + AFTER
    assert found["constant_steps"] == 12
    inside = np.array(found["gradient_norm"][:11])
    factors = inside[:-1] / inside[1:]
    assert factors.min() * 0.99 <= found["growth"] <= factors.max() * 1.01
    assert found["growth"] == pytest.approx(np.exp(-np.polyfit(np.arange(11), np.log(inside), 1)[0]))
    assert found["growth"] > 5


def test_growth_goes_with_one_over_eps_and_noise_ends_it(small: ZeroVariance) -> None:
    grown = [measured(small, part="eps", gain=0.1, eps=e, noise=0.0)["growth"] for e in (1e-5, 1e-4)]
    assert grown[0] / grown[1] == pytest.approx(10, rel=0.1)
    noisy = measured(small, part="noise", gain=0.1, eps=1e-5, noise=0.1)["growth"]
    assert noisy < 1.5 < grown[0]


def test_float32_ends_where_the_gradient_passes_its_largest_number(small: ZeroVariance) -> None:
    found = measured(small, part="eps", gain=1.0, eps=1e-5, noise=0.0)
    reached = sum(norm < torch.finfo(torch.float32).max for norm in found["gradient_norm"][:12])
    assert 0 < found["finite_steps"] < 12
    assert abs(found["finite_steps"] - reached) <= 1
    assert measured(small, norm="ln", part="norm", noise=0.0)["finite_steps"] == 12


def test_an_explosion_is_measured_as_far_as_float64_reaches(tmp_path: Path) -> None:
    """A norm of 1e200 is a number, although its square is not."""
    (tmp_path / "long.yaml").write_text("options: {hidden_size: 4, batch_size: 4, blank: 50}\n")
    long = ZeroVariance(load("zero-variance", quick=True, own=str(tmp_path / "long.yaml")))
    short = measured(long, part="eps", gain=1.0, eps=1e-2, noise=0.0)["growth"]
    found = measured(long, part="eps", gain=1.0, eps=1e-5, noise=0.0)
    assert 1e160 < found["gradient_norm"][0] < math.inf
    assert found["growth"] / short == pytest.approx(1000, rel=0.2)


@pytest.mark.parametrize("norm", ["bn-timestep", SKIPPED])
def test_rounding_is_what_differs_from_the_true_gradient(small: ZeroVariance, norm: str) -> None:
    shares = {
        (row["precision"], steps): row["value"]
        for steps in (1, 4, 40)
        for row in small.measure(Trial({"part": "rounding", "data": "symbols", "steps": steps}, norm, 0), None)
    }
    assert max(shares["float64", 1], shares["float64", 4]) < 1e-3
    assert shares["float32", 1] < 1e-2
    if norm == SKIPPED:
        assert max(shares.values()) < 1e-3
    else:
        assert shares["float32", 4] > 0.9
        assert shares["float32", 40] == 1.0  # no number


def test_a_trial_measures_the_same_every_time(small: ZeroVariance) -> None:
    conditions = {"part": "noise", "gain": 0.1, "eps": 1e-3, "noise": 0.1}
    first = measured(small, **conditions)
    torch.manual_seed(123)
    assert measured(small, **conditions) == first
    assert measured(small, seed=1, **conditions)["growth"] != first["growth"]


def test_a_tiny_run(tmp_path: Path) -> None:
    settings = (
        "seeds: 1\nnorms: [ln]\n"
        "options: {eps: [1.0e-4, 1.0e-3], gains: [0.1], noises: [0.1], blank: 6, hidden_size: 8, batch_size: 8,"
        ' trained: [{norm: "bn-timestep:eps=0.001", noise: 0.1, clip: 1.0}]}\n'
        "model: {init_args: {hidden_size: 4}}\ntrainer: {max_epochs: 1, limit_train_batches: 3}\n"
    )
    m = run_tiny("zero-variance", settings, tmp_path)
    assert set(m["part"]) == set(PARTS)
    assert len(where(m, quantity="growth")) == 4
    (final,) = where(m, quantity="final")["value"]
    assert final == where(m, quantity="accuracy", mode="population")["value"].item()
    assert 0 <= final <= 1
