"""The study of input scalings: verdicts on made tables, steps to a target, the figure, one tiny real run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from studies.tables import keep, made, reread, verdicts

from rnnnorm.engine.run import Run
from rnnnorm.report.canvas import LIGHT
from rnnnorm.report.curves import Curve
from rnnnorm.studies.data.scaling import SCALINGS
from rnnnorm.studies.framework.command import study
from rnnnorm.studies.framework.measurements import collect, read, where
from rnnnorm.studies.framework.plots import Panel, save_figure
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.input_scaling import InputScaling

pytestmark = pytest.mark.filterwarnings("ignore")

CLAIMS = ("faster", "zigzag", "invariant", "centred", "tails")
TRUE = dict.fromkeys(CLAIMS, True)


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RNNNORM_DATA", raising=False)


@pytest.fixture(scope="module")
def quick() -> InputScaling:
    return InputScaling(load("input-scaling", quick=True))


@pytest.fixture
def with_digits(tmp_path: Path) -> InputScaling:
    return InputScaling(load("input-scaling", quick=True, data_dir=str(tmp_path)))


def table(scaling: InputScaling, says: dict[str, bool | None]) -> pd.DataFrame:
    """What the trials might measure if each claim were true, false or, None, true with gradient descent only."""

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        c = trial.conditions
        way = str(c["scaling"])
        jitter = 1e-3 * math.sin(3 * trial.seed + SCALINGS.index(way))

        def pick(claim: str, true: float, false: float) -> float:
            return {True: true, False: false, None: true if c["optimizer"] == "sgd" else false}[says[claim]]

        final, steps, path = 0.9, 200.0, 4.0
        if trial.norm == "none":
            final = {
                "none": 0.7,
                "minmax": pick("centred", 0.8, 0.95),
                "zscore": 0.9,
                "log": pick("tails", 0.95, 0.8),
                "arctan": pick("tails", 0.94, 0.85),
            }[way]
            if way == "none":
                steps, path = pick("faster", 800, 50), pick("zigzag", 32, 1.1)
        if trial.norm.startswith("bn-") and way == "none":
            final = pick("invariant", 0.9, 0.8)
        yield {"quantity": "diverged", "value": 0.0}
        yield {"quantity": "steps_to_target", "value": steps * (1 + jitter)}
        yield {"quantity": "zigzag", "value": path * (1 + jitter)}
        yield {"quantity": "final", "value": final + jitter}
        if trial.seed == 0:
            for t in range(5):
                yield {"quantity": "weight_a", "t": t, "value": float(t)}
                yield {"quantity": "weight_b", "t": t, "value": float(t * t) * SCALINGS.index(way)}

    return made(scaling.trials(), rows)


def drawn(panel: Panel) -> Axes:
    axes = Figure().subplots()
    panel.draw(axes, LIGHT)
    return axes


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize(
    ("true", "verdict"), [(True, "supported"), (False, "contradicted"), (None, "depends")], ids=lambda v: str(v)
)
def test_each_verdict_follows_the_measurements(
    quick: InputScaling, claim: str, true: bool | None, verdict: str, tmp_path: Path
) -> None:
    m = table(quick, TRUE | {claim: true})
    found = verdicts(quick, m)
    assert found == dict.fromkeys(CLAIMS, "supported") | {claim: verdict}
    again = reread(m, tmp_path)
    assert [v.as_dict() for v in quick.judge(again)] == [v.as_dict() for v in quick.judge(m)]
    assert quick.findings(again) == quick.findings(m)


def test_effects_are_octaves_and_accuracies(quick: InputScaling) -> None:
    effects = {v.claim.key: v.headline.effect.mean for v in quick.judge(table(quick, TRUE))}
    assert effects["faster"] == pytest.approx(2.0, abs=0.01)  # 800 steps against 200
    assert effects["zigzag"] == pytest.approx(3.0, abs=0.01)  # 32 against 4
    assert effects["invariant"] == pytest.approx(0.0, abs=0.002)
    assert effects["centred"] == pytest.approx(0.1, abs=0.002)
    assert effects["tails"] == pytest.approx(0.05, abs=0.002)


def test_the_smallest_difference_that_counts_is_one_percent(quick: InputScaling) -> None:
    for gain, verdict in ((0.015, "supported"), (0.005, "contradicted")):
        m = table(quick, TRUE)
        here = (m["quantity"] == "final") & (m["norm"] == "none")
        for way, value in (("zscore", 0.9), ("minmax", 0.9 - gain), ("log", 0.9 + gain), ("arctan", 0.9 + gain)):
            m.loc[here & (m["scaling"] == way), "value"] = value + 1e-4 * m["seed"]
        found = verdicts(quick, m)
        assert (found["centred"], found["tails"]) == (verdict, verdict)


def test_every_norm_over_the_inputs_and_every_optimizer_is_a_case() -> None:
    full = InputScaling(load("input-scaling"))
    found = {v.claim.key: [case.condition for case in v.cases] for v in full.judge(table(full, TRUE))}
    assert sorted(found["invariant"]) == sorted(
        f"{norm}, {optimizer}, series" for norm in ("bn-vertical", "bn-timestep") for optimizer in ("sgd", "adam")
    )
    assert sorted(found["faster"]) == ["none, adam, series", "none, sgd, series"]
    assert {condition.partition(",")[0] for condition in found["tails"]} == {"logarithm", "arctangent"}


def test_spoken_digits_are_cases_of_their_own(with_digits: InputScaling) -> None:
    found = {v.claim.key: [case.condition for case in v.cases] for v in with_digits.judge(table(with_digits, TRUE))}
    assert "bn-vertical, adam, spoken digits" in found["invariant"]
    assert "none, adam, spoken digits" in found["faster"]
    assert not any("minmax" in c or "digits" in c for c in found["centred"])  # not scaled like that in the quick grid


def test_norms_without_a_claim_leave_it_out(quick: InputScaling) -> None:
    m = table(quick, TRUE)
    assert quick.judge(m[m["norm"] == "ln"]) == []
    assert set(verdicts(quick, m[m["norm"] == "none"])) == set(CLAIMS) - {"invariant"}
    assert set(verdicts(quick, m[m["norm"] == "bn-vertical"])) == {"invariant"}
    assert set(verdicts(quick, m[m["scaling"] != "zscore"])) == set()


def test_the_findings_name_the_best_scaling_of_each_norm(quick: InputScaling) -> None:
    m = table(quick, TRUE)
    said = quick.findings(m)
    assert len([s for s in said if s.startswith("On series `")]) == 3
    assert any("`none` does best with logarithm inputs: 0.950; raw inputs reach 0.700" in s for s in said)
    raw = (m["norm"] == "none") & (m["scaling"] == "none") & (m["quantity"] == "final")
    m.loc[raw, "value"] = 0.99
    (best,) = [s for s in quick.findings(m) if "`none`" in s]
    assert "does best with raw inputs: 0.990" in best
    assert "raw inputs reach" not in best


def test_the_figure_shows_every_scaling(quick: InputScaling, tmp_path: Path) -> None:
    panels = quick.panels(reread(table(quick, TRUE), tmp_path))
    assert len(panels) == 4  # path, two optimizers, steps
    for panel in panels:
        labels = drawn(panel).get_legend_handles_labels()[1]
        assert labels == ["raw", "min-max", "z-score", "logarithm", "arctangent"]
    png, _ = save_figure(panels, tmp_path, quick.question)
    assert matplotlib.image.imread(png).std() > 0.02


def test_paths_begin_at_the_cross_and_have_the_small_feature_along(quick: InputScaling) -> None:
    axes = drawn(quick.panels(table(quick, TRUE))[0])
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["raw"].get_xdata().tolist() == [0, 1, 2, 3, 4]  # weight_a, of the first feature
    assert lines["min-max"].get_ydata().tolist() == [0, 1, 4, 9, 16]  # weight_b


def test_dots_stand_at_the_measured_accuracies(quick: InputScaling) -> None:
    m = table(quick, TRUE)
    panel = next(p for p in quick.panels(m) if p.title.startswith("adam"))
    xs = [float(x) for line in drawn(panel).lines for x in np.ravel(line.get_xdata())]
    here = where(m, quantity="final", optimizer="adam")
    for value in here["value"]:
        assert min(abs(x - value) for x in xs) < 1e-12
    for _, group in here.groupby(["norm", "scaling"]):
        assert min(abs(x - group["value"].mean()) for x in xs) < 1e-12


def test_with_spoken_digits_no_panel_is_empty(with_digits: InputScaling, tmp_path: Path) -> None:
    panels = with_digits.panels(reread(table(with_digits, TRUE), tmp_path))
    for panel in panels:
        assert len(drawn(panel).get_legend_handles_labels()[1]) >= 3, f"nothing in {panel.title!r} against {panel.x!r}"
    save_figure(panels, tmp_path, "?")


@pytest.mark.parametrize("norm", ["none", "ln", "bn-vertical"])
def test_the_figure_of_one_norm(quick: InputScaling, norm: str, tmp_path: Path) -> None:
    m = table(quick, TRUE)
    panels = quick.panels(m[m["norm"] == norm])
    assert all(len(drawn(panel).get_legend_handles_labels()[1]) == 5 for panel in panels)
    if norm != "none":
        assert not any("none" in panel.title for panel in panels)
    save_figure(panels, tmp_path, "?")


@pytest.mark.parametrize("count", [1, 4, 17])
def test_a_study_that_was_interrupted_can_be_concluded(quick: InputScaling, count: int, tmp_path: Path) -> None:
    for trial in quick.trials()[:count]:
        keep([{"quantity": "final", "value": 0.5}], trial, tmp_path)
    m = collect(quick.trials(), tmp_path, quick.columns)
    assert len(m) == count
    for one in (m, reread(m, tmp_path)):
        assert all(verdict.cases for verdict in quick.verdicts(one))
        assert all("nan" not in sentence for sentence in quick.findings(one))
        save_figure(quick.panels(one), tmp_path, "?")


def test_divergence_is_told(quick: InputScaling) -> None:
    m = table(quick, TRUE)
    assert "diverged" not in " ".join(quick.findings(m))
    lost = (m["quantity"] == "diverged") & (m["norm"] == "none") & (m["scaling"] == "none")
    m.loc[lost, "value"] = 1.0
    assert f"{lost.sum()} of {len(quick.trials())} runs diverged; they count as guessing." in quick.findings(m)


@pytest.mark.parametrize("small", [True, False], ids=["quick", "full"])
def test_every_trial_is_one_of_its_kind(small: bool, tmp_path: Path) -> None:
    trials = InputScaling(load("input-scaling", quick=small, data_dir=str(tmp_path))).trials()
    assert len({(t.arm, t.norm, t.seed) for t in trials}) == len(trials)
    assert {t.conditions["data"] for t in trials} == {"series", "spoken digits"}
    assert len({t.seed for t in trials}) >= 3
    generated = InputScaling(load("input-scaling", quick=small)).trials()
    assert {t.conditions["data"] for t in generated} == {"series"}


def test_trials_train_with_the_optimizer_and_the_scaling_they_are_named_after(quick: InputScaling) -> None:
    for trial in quick.trials():
        config: Any = trial.config
        keys = config["data"]["init_args"]
        assert keys["scaling"] == trial.conditions["scaling"]
        assert keys["data"]["class_path"].endswith("BadlyScaled")
        assert keys["batch_size"] == 32
        assert "batch_size" not in keys["data"]["init_args"]
        model = config["model"]["init_args"]
        assert model["optimizer"] == trial.conditions["optimizer"]
        assert model["learning_rate"] == quick.settings.option("optimizers")[model["optimizer"]]


def test_own_data_are_scaled_and_digits_left_out(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("data: {class_path: rnnnorm.data.AddingProblem, init_args: {max_length: 12, batch_size: 7}}\n")
    trials = InputScaling(load("input-scaling", quick=True, own=str(own), data_dir=str(tmp_path))).trials()
    assert {t.conditions["data"] for t in trials} == {"own"}
    config: Any = trials[0].config
    assert config["data"]["init_args"]["data"] == {
        "class_path": "rnnnorm.data.AddingProblem",
        "init_args": {"max_length": 12},
    }
    assert config["data"]["init_args"]["batch_size"] == 7


def trained(folder: Path, losses: list[float], **result: Any) -> Trained:
    """A run of which only the learning curve and the result are known."""
    comparison: Any = SimpleNamespace(
        build_data=lambda: SimpleNamespace(spec=SimpleNamespace(task="classification", num_outputs=4))
    )
    common = {"status": "finished", "steps": len(losses), "seconds": 1.0, "parameters": 1, "best_val": 0.5}
    common |= {
        "test": {"population": {"accuracy": 0.6}},
        "buckets": {},
        "metric": "accuracy",
        "metric_mode": "max",
        "evaluates_by": "population",
    }
    one = Trained(Run("none", 0, folder), common | result, comparison)
    curve = Curve(np.arange(len(losses)), np.array(losses))
    vars(one)["curves"] = {"train/loss": curve}
    one.folder.mkdir(parents=True, exist_ok=True)
    return one


def measured(scaling: InputScaling, run: Trained, seed: int = 0) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in scaling.measure(Trial({"scaling": "none", "optimizer": "sgd"}, "none", seed, {}), run):
        found.setdefault(str(row["quantity"]), []).append(float(row["value"]))
    return found


def test_the_target_is_reached_by_the_mean_of_twenty_losses(quick: InputScaling, tmp_path: Path) -> None:
    """0.85 · log 4 = 1.178; of losses 2 and then 0 the mean is below that when 9 of 20 are 0."""
    losses = [2.0] * 30 + [0.0] * 30
    assert measured(quick, trained(tmp_path, losses))["steps_to_target"] == [39]
    naive = next(k + 1 for k in range(19, 60) if np.mean(losses[k - 19 : k + 1]) < 0.85 * math.log(4))
    assert naive == 39


def test_a_lucky_batch_is_no_target(quick: InputScaling, tmp_path: Path) -> None:
    assert measured(quick, trained(tmp_path, [2.0] * 20 + [0.0] + [2.0] * 20))["steps_to_target"] == [42]


def test_a_network_that_learned_at_once_took_twenty_steps(quick: InputScaling, tmp_path: Path) -> None:
    assert measured(quick, trained(tmp_path, [0.1] * 25))["steps_to_target"] == [20]


def test_the_final_score_is_that_of_the_way_it_is_evaluated_by(quick: InputScaling, tmp_path: Path) -> None:
    test = {"running": {"accuracy": 0.5}, "population": {"accuracy": 0.75}}
    assert measured(quick, trained(tmp_path, [1.0] * 20, test=test))["final"] == [0.75]
    lower = {"population": {"mse": 0.2}}
    worse = trained(tmp_path, [1.0] * 20, test=lower, metric="mse", metric_mode="min")
    assert measured(quick, worse)["final"] == [-0.2]


def test_the_path_is_read_from_the_log_folder(quick: InputScaling, tmp_path: Path) -> None:
    run = trained(tmp_path, [1.0] * 20)
    points = [[1.0, 1.0], [1.0, 2.0], [2.0, 2.0], [math.nan, 3.0]]
    (run.folder / "path.json").write_text(json.dumps(points))
    found = measured(quick, run)
    assert found["zigzag"] == [pytest.approx(math.sqrt(2))]
    assert found["weight_a"] == [0, 0, 1]
    assert found["weight_b"] == [0, 1, 1]
    assert "weight_a" not in measured(quick, run, seed=quick.settings.seeds[1])  # one path is enough to look at


def test_a_tiny_run(tmp_path: Path) -> None:
    """Two networks; one of them diverges at once, and is neither fast nor forgotten."""
    (tmp_path / "mine.yaml").write_text(
        "seeds: 1\nnorms: [none]\n"
        "options: {scalings: [zscore], optimizers: {adam: 0.01, sgd: 1.0e+38}}\n"
        "model: {init_args: {hidden_size: 4}}\n"
        "trainer: {max_epochs: 1, limit_train_batches: 30, gradient_clip_val: null}\n"
    )
    args = ["input-scaling", "--quick", "-c", str(tmp_path / "mine.yaml"), "--jobs", "1", "--out", str(tmp_path / "o")]
    assert study(args, Console(record=True, width=200, force_terminal=False)) == 0
    m = read(tmp_path / "o" / "input-scaling")
    calm = where(m, optimizer="adam")
    assert where(calm, quantity="steps")["value"].tolist() == [30]
    assert 20 <= where(calm, quantity="steps_to_target")["value"].item() <= 31
    assert 0 <= where(calm, quantity="final")["value"].item() <= 1
    assert where(calm, quantity="zigzag")["value"].item() >= 1
    for name in ("weight_a", "weight_b"):
        path = where(calm, quantity=name).sort_values("t")
        assert path["t"].tolist() == list(range(31))
        assert path["value"].iloc[0] == 0
        assert path["value"].abs().max() > 0
    lost = where(m, optimizer="sgd")
    assert where(lost, quantity="diverged")["value"].tolist() == [1]
    assert where(lost, quantity="steps")["value"].item() < 20
    assert where(lost, quantity="final")["value"].tolist() == [0.25]  # as good as guessing
    assert where(lost, quantity="steps_to_target")["value"].item() >= 31
    assert (tmp_path / "o" / "input-scaling" / "figure.png").is_file()
