"""The study of regularization: verdicts on made tables, mean scores, one tiny real run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from studies.tables import keep, made, reread, verdicts
from torch import nn

from rnnnorm.norms import recalibrate, statistics
from rnnnorm.report.canvas import LIGHT
from rnnnorm.studies.data.plain_training import build_data, build_task
from rnnnorm.studies.framework.command import study
from rnnnorm.studies.framework.measurements import collect, read, where
from rnnnorm.studies.framework.plots import Panel, save_figure
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.regularization import Regularization, mean_score

pytestmark = pytest.mark.filterwarnings("ignore")

CLAIMS = ("regularizes", "better", "ln-overfits")
TRUE = dict.fromkeys(CLAIMS, True)


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RNNNORM_DATA", raising=False)


@pytest.fixture(scope="module")
def quick() -> Regularization:
    return Regularization(load("regularization", quick=True))


def table(regularization: Regularization, says: dict[str, bool | None]) -> pd.DataFrame:
    """What the trials might measure if each claim were true, false or, None, true for the smallest training set only.

    Dropout changes nothing here; see `world`.
    """

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        c = trial.conditions
        first = c["train"] == "250 sequences"
        jitter = 1e-4 * math.sin(3 * trial.seed + len(trial.norm) + 9 * float(c["dropout"]))

        def pick(claim: str, true: float, false: float) -> float:
            return {True: true, False: false, None: true if first else false}[says[claim]]

        batch = trial.norm.startswith("bn-")
        test, gap = 0.7, 0.2
        if batch:
            gap = pick("regularizes", 0.1, 0.3)
            test = pick("better", 0.75, 0.65)
        if trial.norm == "ln":
            gap = pick("ln-overfits", 0.3, 0.2)
        yield {"quantity": "diverged", "value": 0.0}
        yield {"quantity": "final", "split": "test", "value": test + jitter}
        yield {"quantity": "final", "split": "train", "value": test + gap + 3 * jitter}
        yield {"quantity": "gap", "value": gap + 2 * jitter}

    return made(regularization.trials(), rows)


def drawn(panel: Panel) -> Axes:
    axes = Figure().subplots()
    panel.draw(axes, LIGHT)
    return axes


def put(m: pd.DataFrame, quantity: str, value: float, **chosen: Any) -> None:
    """Write a value into the rows chosen, a little different for every seed."""
    here = m["quantity"] == quantity
    for column, wanted in chosen.items():
        here &= m[column].isin(wanted) if isinstance(wanted, list) else m[column] == wanted
    assert here.any()
    m.loc[here, "value"] = value + 1e-4 * m.loc[here, "seed"]


BN = ["bn-vertical", "bn-timestep"]


def world(regularization: Regularization, **scores: float) -> pd.DataFrame:
    """A table in which batch normalization, dropout and both reach these test scores, and none 0.7."""
    m = table(regularization, TRUE)
    put(m, "final", 0.7, split="test", norm=["none", "ln"], dropout=0.0)
    put(m, "final", scores["dropout"], split="test", norm=["none", "ln"], dropout=0.3)
    put(m, "final", scores["bn"], split="test", norm=BN, dropout=0.0)
    put(m, "final", scores["both"], split="test", norm=BN, dropout=0.3)
    return m


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize(
    ("true", "verdict"), [(True, "supported"), (False, "contradicted"), (None, "depends")], ids=lambda v: str(v)
)
def test_each_verdict_follows_the_measurements(
    quick: Regularization, claim: str, true: bool | None, verdict: str, tmp_path: Path
) -> None:
    m = table(quick, TRUE | {claim: true})
    found = verdicts(quick, m)
    assert found[claim] == verdict
    assert {found[other] for other in CLAIMS if other != claim} == {"supported"}
    again = reread(m, tmp_path)
    assert [v.as_dict() for v in quick.judge(again)] == [v.as_dict() for v in quick.judge(m)]
    assert quick.findings(again) == quick.findings(m)


@pytest.mark.parametrize(
    ("scores", "instead", "disharmony"),
    [
        ({"bn": 0.8, "dropout": 0.75, "both": 0.7}, "supported", "supported"),
        ({"bn": 0.8, "dropout": 0.75, "both": 0.9}, "contradicted", "contradicted"),
        ({"bn": 0.8, "dropout": 0.9, "both": 0.85}, "contradicted", "supported"),  # dropout is the better one
        ({"bn": 0.8, "dropout": 0.75, "both": 0.805}, "supported", "contradicted"),  # less than a percent
        ({"bn": 0.8, "dropout": 0.75, "both": 0.795}, "supported", "contradicted"),
        ({"bn": 0.8, "dropout": 0.75, "both": 0.785}, "supported", "supported"),
    ],
    ids=["both are worst", "both are best", "in between", "a little better", "a little worse", "worse"],
)
def test_dropout_and_batch_normalization_together(
    quick: Regularization, scores: dict[str, float], instead: str, disharmony: str, tmp_path: Path
) -> None:
    m = world(quick, **scores)
    found = verdicts(quick, m)
    assert (found["instead"], found["disharmony"]) == (instead, disharmony)
    assert verdicts(quick, reread(m, tmp_path)) == found


def test_together_depends_where_training_sets_disagree(quick: Regularization) -> None:
    m = world(quick, bn=0.8, dropout=0.75, both=0.7)
    put(m, "final", 0.9, split="test", norm=BN, dropout=0.3, train="4000 sequences")
    found = verdicts(quick, m)
    assert (found["instead"], found["disharmony"]) == ("depends", "depends")


def test_the_better_one_is_chosen_seed_by_seed(quick: Regularization) -> None:
    m = world(quick, bn=0.8, dropout=0.75, both=0.78)
    lucky = (m["norm"] == "none") & (m["dropout"] == 0.3) & (m["seed"] == 1) & (m["split"] == "test")
    m.loc[lucky, "value"] = 0.86
    (found,) = (v for v in quick.judge(m) if v.claim.key == "disharmony")
    expected = (0.02 + (0.86 - 0.7801) + 0.02) / 3
    assert [case.effect.mean for case in found.cases] == pytest.approx([expected] * 4, abs=1e-6)


def test_without_dropout_alone_there_is_no_better_one(quick: Regularization) -> None:
    m = world(quick, bn=0.8, dropout=0.75, both=0.7)
    alone = m[~((m["norm"] == "none") & (m["dropout"] > 0))]
    assert "disharmony" not in {v.claim.key for v in quick.verdicts(alone)}
    assert "instead" in {v.claim.key for v in quick.verdicts(alone)}


def test_effects_are_differences_between_gaps_and_scores(quick: Regularization) -> None:
    effects = {v.claim.key: v.headline.effect.mean for v in quick.judge(table(quick, TRUE))}
    assert effects["regularizes"] == pytest.approx(0.1, abs=0.002)
    assert effects["better"] == pytest.approx(0.05, abs=0.002)
    assert effects["ln-overfits"] == pytest.approx(0.1, abs=0.002)


def test_sizes_are_in_order_and_real_data_come_last(tmp_path: Path) -> None:
    full = Regularization(load("regularization", data_dir=str(tmp_path)))
    (found,) = (v for v in full.judge(table(full, TRUE)) if v.claim.key == "ln-overfits")
    assert [case.condition for case in found.cases] == [
        "ln, 250 training sequences",
        "ln, 500 training sequences",
        "ln, 1000 training sequences",
        "ln, 4000 training sequences",
        "ln, 16000 training sequences",
        "ln, Japanese vowels",
    ]


def test_norms_without_a_claim_leave_it_out(quick: Regularization) -> None:
    m = table(quick, TRUE)
    assert quick.verdicts(m[m["norm"] == "ln"]) == []
    assert quick.verdicts(m[m["norm"] == "none"]) == []
    keys = {v.claim.key for v in quick.verdicts(m[m["norm"] == "bn-timestep"])}
    assert keys == {"instead"}
    keys = {v.claim.key for v in quick.verdicts(m[m["norm"].isin(["none", "ln"])])}
    assert keys == {"ln-overfits"}


def test_findings_name_the_best_recipe_and_the_widest_gap(quick: Regularization) -> None:
    m = table(quick, TRUE)
    put(m, "final", 0.93, split="test", norm="ln", dropout=0.3, train="250 sequences")
    put(m, "gap", 0.44, norm="none", dropout=0.0, train="250 sequences")
    first, second = quick.findings(m)
    assert first == (
        "On 250 training sequences the best is `ln` with dropout 0.3 with 0.930; the widest gap between "
        "training and test is that of `none`, 0.440."
    )
    assert second.startswith("On 4000 training sequences the best is `bn-")
    put(m, "final", 0.98, split="test", norm="none", dropout=0.0, train="250 sequences")
    assert "the best is `none` with 0.980" in quick.findings(m)[0]


def test_divergence_is_told(quick: Regularization) -> None:
    m = table(quick, TRUE)
    assert "diverged" not in " ".join(quick.findings(m))
    lost = (m["quantity"] == "diverged") & (m["norm"] == "bn-timestep") & (m["dropout"] == 0.0)
    m.loc[lost, "value"] = 1.0
    assert f"{lost.sum()} of {len(quick.trials())} runs diverged" in quick.findings(m)[-1]


def test_the_figure_shows_the_numbers(quick: Regularization, tmp_path: Path) -> None:
    m = reread(table(quick, TRUE), tmp_path)
    panels = quick.panels(m)
    assert [panel.title for panel in panels] == [
        "accuracy, 250 training sequences",
        "accuracy, 4000 training sequences",
        "training minus test accuracy, no dropout",
    ]
    png, _ = save_figure(panels, tmp_path, quick.question)
    assert matplotlib.image.imread(png).std() > 0.02
    lines = {line.get_label(): line for line in drawn(panels[0]).lines}
    for norm in quick.settings.norms:
        for split, label in (("test", norm), ("train", f"{norm}, training")):
            here = where(m, quantity="final", split=split, norm=norm, train="250 sequences")
            expected = here.groupby("dropout")["value"].mean()
            assert lines[label].get_xdata().tolist() == [0.0, 0.3]
            assert lines[label].get_ydata().tolist() == pytest.approx(expected.tolist())
    gaps = {line.get_label(): line for line in drawn(panels[2]).lines}
    assert gaps["ln"].get_xdata().tolist() == [250, 4000]
    assert gaps["ln"].get_ydata().tolist() == pytest.approx([0.3, 0.3], abs=0.001)


def test_real_data_have_a_panel(tmp_path: Path) -> None:
    real = Regularization(load("regularization", quick=True, data_dir=str(tmp_path)))
    panels = real.panels(table(real, TRUE))
    assert [panel.title for panel in panels][2] == "accuracy, Japanese vowels"
    assert len(panels) == 4
    save_figure(panels, tmp_path, "?")


@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep"])
def test_the_figure_of_one_norm(quick: Regularization, norm: str, tmp_path: Path) -> None:
    m = table(quick, TRUE)
    save_figure(quick.panels(m[m["norm"] == norm]), tmp_path, "?")


@pytest.mark.parametrize("count", [1, 4, 13])
def test_a_study_that_was_interrupted_can_be_concluded(quick: Regularization, count: int, tmp_path: Path) -> None:
    for trial in quick.trials()[:count]:
        rows = [{"quantity": "final", "split": split, "value": 0.5} for split in ("train", "test")]
        keep([*rows, {"quantity": "gap", "value": 0.0}], trial, tmp_path)
    m = collect(quick.trials(), tmp_path, quick.columns)
    assert len(m) == 3 * count
    for one in (m, reread(m, tmp_path), m.iloc[:1]):
        assert all(verdict.cases for verdict in quick.verdicts(one))
        assert all("nan" not in sentence for sentence in quick.findings(one))
        save_figure(quick.panels(one), tmp_path, "?")


def test_a_table_of_diverged_runs_alone_can_be_concluded(quick: Regularization, tmp_path: Path) -> None:
    m = made(quick.trials()[:6], lambda trial: [{"quantity": "diverged", "split": None, "value": 1.0}])
    assert quick.verdicts(m) == []
    assert "6 of 6 runs diverged" in quick.findings(m)[-1]
    save_figure(quick.panels(m), tmp_path, "?")


@pytest.mark.parametrize("small", [True, False], ids=["quick", "full"])
def test_every_trial_is_one_of_its_kind(small: bool, tmp_path: Path) -> None:
    trials = Regularization(load("regularization", quick=small, data_dir=str(tmp_path))).trials()
    assert len({(t.arm, t.norm, t.seed) for t in trials}) == len(trials)
    assert "Japanese vowels" in {t.conditions["train"] for t in trials}
    assert len({t.seed for t in trials}) >= 3


@pytest.mark.parametrize("small", [True, False], ids=["quick", "full"])
def test_every_size_sees_the_same_number_of_sequences(small: bool) -> None:
    regularization = Regularization(load("regularization", quick=small))
    wanted = regularization.settings.option("sequences")
    for trial in regularization.trials():
        config: Any = trial.config
        inner = config["data"]["init_args"]["data"]
        size = inner["init_args"]["num_train"]
        assert f"{size} sequences" == trial.conditions["train"]
        assert inner["class_path"].endswith("BadlyScaled")
        assert size * config["trainer"]["max_epochs"] == pytest.approx(wanted, rel=0.01)
        assert config["trainer"]["check_val_every_n_epoch"] <= config["trainer"]["max_epochs"]
        assert config["model"]["init_args"]["dropout"] == trial.conditions["dropout"]


def test_own_data_are_one_arm(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("data: {class_path: rnnnorm.data.TemporalOrder, init_args: {num_train: 90, batch_size: 16}}\n")
    regularization = Regularization(load("regularization", quick=True, own=str(own), data_dir=str(tmp_path)))
    trials = regularization.trials()
    assert {t.conditions["train"] for t in trials} == {"own"}
    config: Any = trials[0].config
    assert config["data"]["init_args"] == {"num_train": 90, "batch_size": 16}
    m = made(trials, lambda trial: [{"quantity": "final", "split": s, "value": 0.5} for s in ("train", "test")])
    titles = [panel.title for panel in regularization.panels(m)]
    assert titles == ["accuracy, your data"]
    assert "On your data the best is" in regularization.findings(
        pd.concat([m, made(trials, lambda trial: [{"quantity": "gap", "value": 0.1}])])
    )[0]  # fmt: skip


class Marked(nn.Module):
    """Scores each prediction by what the batch says."""

    def __init__(self, metric_mode: str) -> None:
        super().__init__()
        self.metric_mode = metric_mode

    def scores(self, batch: torch.Tensor) -> Any:
        return SimpleNamespace(score=batch)


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
def test_the_mean_is_over_predictions_and_larger_is_better(mode: str, sign: int) -> None:
    batches = [torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1.0])]
    model: Any = Marked(mode)
    assert mean_score(model, batches) == sign * 0.5
    assert math.isnan(mean_score(model, []))


TINY = {
    "data": {
        "class_path": "rnnnorm.data.TemporalOrder",
        "init_args": {
            "num_train": 40,
            "num_val": 8,
            "num_test": 60,
            "length_distribution": "uniform",
            "min_length": 10,
            "max_length": 25,
            "batch_size": 4,
        },
    },
    "model": {"init_args": {"hidden_size": 4, "dropout": 0.5}},
    "trainer": {"max_epochs": 1},
}


def test_scores_are_by_population_statistics_and_without_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    data = build_data(TINY, 0)
    model = build_task(TINY, data, "bn-timestep", 0)
    recalibrate(model, data.train_dataloader(), forward=model.scores)
    monkeypatch.setattr(model, "contributions", lambda logits, target, losses: losses)  # finer than right or wrong
    model.train()
    found = mean_score(model, data.test_dataloader())
    expected = {}
    with torch.no_grad():
        for mode in ("running", "population", "batch"):
            losses = []
            with statistics(model.eval(), mode):
                for batch in data.test_dataloader():
                    losses += torch.nn.functional.cross_entropy(
                        model(batch.input)[0], batch.target, reduction="none"
                    ).tolist()
            assert len(losses) == 60
            expected[mode] = sum(losses) / 60
    assert found == pytest.approx(expected["population"], abs=1e-6)
    assert abs(found - expected["running"]) > 1e-4
    assert abs(found - expected["batch"]) > 1e-4
    assert mean_score(model, data.test_dataloader()) == found  # nothing is drawn


def test_scores_of_a_classifier_are_accuracies() -> None:
    data = build_data(TINY, 0)
    model = build_task(TINY, data, "ln", 0)
    found = mean_score(model, data.test_dataloader())
    with torch.no_grad():
        right = [(model(b.input)[0].argmax(1) == b.target).tolist() for b in data.test_dataloader()]
    assert found == pytest.approx(sum(map(sum, right)) / 60)


def test_a_tiny_run(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "seeds: 1\nnorms: [bn-vertical]\n"
        "options: {dropouts: [0.3], train: [100], sequences: 300}\n"
        "model: {init_args: {hidden_size: 4, num_layers: 1}}\n"
    )
    args = ["regularization", "--quick", "-c", str(tmp_path / "mine.yaml"), "--jobs", "1", "--out", str(tmp_path / "o")]
    assert study(args, Console(record=True, width=200, force_terminal=False)) == 0
    m = read(tmp_path / "o" / "regularization")
    assert set(m["train"]) == {"100 sequences"}
    final = where(m, quantity="final").set_index("split")["value"]
    assert set(final.index) == {"train", "test"}
    assert final.between(0, 1).all()
    assert round(final["test"] * 2000) == pytest.approx(final["test"] * 2000, abs=1e-6)  # all 2000 sequences counted
    assert round(final["train"] * 100) == pytest.approx(final["train"] * 100, abs=1e-6)
    assert where(m, quantity="gap")["value"].item() == pytest.approx(final["train"] - final["test"])
    assert where(m, quantity="steps")["value"].item() == 3 * 2  # epochs × batches
    assert (tmp_path / "o" / "regularization" / "figure.png").is_file()
