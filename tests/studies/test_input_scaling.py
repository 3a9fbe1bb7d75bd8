"""The study of input scalings: effects, the figure, steps to a target, one tiny real run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from studies.tables import drawn, made, run_tiny

from rnnnorm.engine.run import Run
from rnnnorm.report.curves import Curve
from rnnnorm.studies.data.scaling import SCALINGS
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.input_scaling import NAMES, InputScaling

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def quick() -> InputScaling:
    return InputScaling(load("input-scaling", quick=True))


def table(scaling: InputScaling) -> pd.DataFrame:
    """A world in which raw inputs are slow and bad where nothing is normalized, and a path of two weights."""

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        way, bare = str(trial.conditions["scaling"]), trial.norm == "none"
        yield {"quantity": "diverged", "value": 0.0}
        yield {"quantity": "steps_to_target", "value": 800.0 if bare and way == "none" else 200.0}
        yield {"quantity": "zigzag", "value": 32.0 if bare and way == "none" else 4.0}
        best = {"none": 0.7, "minmax": 0.8, "zscore": 0.9, "log": 0.75, "arctan": 0.72}
        best |= {"minmax-centred": 0.81, "zscore-offset": 0.89, "log-zscore": 0.95}
        yield {"quantity": "final", "value": best[way] if bare else 0.9}
        if trial.seed == 0:
            for t in range(5):
                yield {"quantity": "weight_a", "t": t, "value": float(t)}
                yield {"quantity": "weight_b", "t": t, "value": float(t * t) * SCALINGS.index(way)}

    return made(scaling.trials(), rows)


def test_effects_are_octaves_and_accuracies(quick: InputScaling) -> None:
    effects = {v.claim.key: v.headline.effect.mean for v in quick.judge(table(quick))}
    expected = {"faster": 2.0, "zigzag": 3.0, "invariant": 0.0, "centred": 0.01, "tails": 0.05}
    assert effects == pytest.approx(expected)  # 800 steps against 200, 32 against 4


def test_the_findings_rank_the_scalings_of_each_norm(quick: InputScaling) -> None:
    best, *said = quick.findings(table(quick))
    assert best.startswith("Best of all by test score: z-score of the logarithm with `none` and SGD on series (0.95; ")
    assert len(said) == 3
    assert said[0].startswith("On series `none`")
    assert said[0].endswith(
        ": z-score of the logarithm 0.950, z-score 0.900, z-score off zero 0.890, centred min-max 0.810, "
        "min-max 0.800, logarithm 0.750, arctangent 0.720, raw 0.700."
    )


def test_centring_and_tails_are_factors_of_their_own(quick: InputScaling) -> None:
    """Z-scores differ from min-max in spread, too: 0.9 against 0.8 here, of which centring makes 0.01."""
    found = {v.claim.key: v for v in quick.judge(table(quick))}
    conditions = [case.condition for case in found["centred"].cases]
    assert conditions == [
        f"{way}, none, {by}, series" for way in ("centred min-max", "z-score") for by in ("Adam", "SGD")
    ]
    assert [case.effect.mean for case in found["centred"].cases] == pytest.approx([0.01] * 4)
    assert [case.effect.mean for case in found["tails"].cases] == pytest.approx([0.05] * 2)


def test_full_runs_have_milder_scales_too() -> None:
    full = InputScaling(load("input-scaling", quick=False)).trials()
    assert {trial.conditions["data"] for trial in full} == {"series", "series, 2 decades"}


def test_every_plot_shows_every_scaling(quick: InputScaling) -> None:
    panels = quick.panels(table(quick))
    assert [panel.title for panel in panels] == [
        "path of two weights from the cross (none, SGD)", "test score, series, SGD", "test score, series, Adam",
        "training steps to the target loss, series, SGD",
    ]  # fmt: skip
    for panel in panels:
        labels = dict.fromkeys(drawn(panel).get_legend_handles_labels()[1])
        assert set(labels) == set(NAMES.values())


def test_paths_begin_at_the_cross_and_have_the_small_feature_along(quick: InputScaling) -> None:
    lines = {line.get_label(): line for line in drawn(quick.panels(table(quick))[0]).lines}
    assert np.asarray(lines["raw"].get_xdata()).tolist() == [0, 1, 2, 3, 4]  # weight_a, of the first feature
    assert np.asarray(lines["min-max"].get_ydata()).tolist() == [0, 1, 4, 9, 16]  # weight_b


def test_without_the_usual_norm_another_ones_path_is_drawn(quick: InputScaling) -> None:
    m = table(quick)
    panel = quick.panels(m[m["norm"] == "ln"])[0]
    assert panel.title == "path of two weights from the cross (ln, SGD)"
    assert len(drawn(panel).get_legend_handles_labels()[1]) == 3


def test_spoken_digits_are_scaled_too(tmp_path: Path) -> None:
    real = InputScaling(load("input-scaling", quick=True, data_dir=str(tmp_path)))
    digits = [trial for trial in real.trials() if trial.conditions["data"] == "spoken digits"]
    assert {trial.conditions["scaling"] for trial in digits} == {"none", "zscore", "log-zscore"}
    for trial in digits:
        config: Any = trial.config
        keys = config["data"]["init_args"]
        assert keys["data"]["init_args"] == {"standardize": False, "data_dir": str(tmp_path)}
        assert (keys["scaling"], keys["batch_size"]) == (trial.conditions["scaling"], 32)
        assert config["trainer"]["max_epochs"] == 3
    found = {v.claim.key: [case.condition for case in v.cases] for v in real.judge(table(real))}
    assert "bn-vertical, Adam, spoken digits" in found["invariant"]
    assert "none, Adam, spoken digits" in found["tails"]


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
        "init_args": {"max_length": 12, "seed": 0},
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
    settings = (
        "seeds: 1\nnorms: [none]\n"
        "options: {scalings: [zscore], factors: [], optimizers: {adam: 0.01, sgd: 1.0e+38}}\n"
        "model: {init_args: {hidden_size: 4}}\n"
        "trainer: {max_epochs: 1, limit_train_batches: 30, gradient_clip_val: null}\n"
    )
    m = run_tiny("input-scaling", settings, tmp_path)
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
