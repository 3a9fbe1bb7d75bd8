"""The study of the train/inference gap: verdicts on made tables, sequences regrouped, its figure, a tiny real run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from studies.tables import PLAIN, made, reread, run_tiny, verdicts

from rnnnorm.norms import recalibrate
from rnnnorm.report.curves import Curve
from rnnnorm.studies.data.languages import Lexicon
from rnnnorm.studies.framework.compose import save_figure
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.inference_gap import InferenceGap
from rnnnorm.studies.measures.inference import base_of, momentum_of, validation_gap
from rnnnorm.studies.measures.regrouped import bits_by_step, mean_bits, regrouped, scored, twins
from rnnnorm.tasks import LanguageModelling, SequenceTask
from rnnnorm.tasks.scores import Scores

pytestmark = pytest.mark.filterwarnings("ignore")

CLAIMS = {"terrible", "population", "one", "renorm", "vertical"}


def study(quick: bool = True, **keys: Any) -> InferenceGap:
    return InferenceGap(load("inference-gap", quick=quick, **keys))


def rows_of(trial: Trial, agrees: bool) -> Iterator[dict[str, Any]]:
    """What a trial measures in a world in which the claims hold, or do not."""
    jitter = 1e-3 * trial.seed
    yield {"quantity": "diverged", "value": 0.0}
    base = base_of(trial.norm)
    about: dict[str, Any] = {"base": base}
    if not base.startswith(("bn-", "brn")):
        yield {"quantity": "loss", "mode": "running", "value": 7.0}  # of the best checkpoint, in nats: not ours
        yield {**about, "quantity": "loss", "mode": "running", "rows": 64, "value": 1 + jitter}
        return
    momentum = trial.norm.partition("momentum=")[2].partition(":")[0] or "0.1"
    about["momentum"] = 0.0 if momentum == "none" else float(momentum)
    wide = (base.split(":")[0] in ("bn-timestep", "bn-shared")) is agrees  # the gap of these, or that of the others
    gap = (0.3 if wide else 0.0) + about["momentum"] * (0.1 if wide else 0.01)
    losses = {"running": 1 + gap, "population": 1.0, "batch": 1.1 if agrees else 0.9, "training": 1.0}
    for mode, loss in losses.items():
        yield {"quantity": "loss", "mode": mode, "value": 7.0}  # of the best checkpoint, in nats: not ours
        yield {**about, "quantity": "loss", "mode": mode, "rows": 64, "value": loss + jitter}
        yield {**about, "quantity": "train_split", "mode": mode, "value": loss - 0.25 + jitter}
        for t in (0, 4, 8):
            yield {**about, "quantity": "loss_at", "mode": mode, "t": t, "count": 9, "value": loss + 0.1 * t + jitter}
    for size in (2, 4, 8, 16):
        value = losses["batch"] + (1 / size if agrees else 0.0) + jitter
        yield {**about, "quantity": "loss", "mode": "batch", "rows": size, "value": value}
    alone = 1.0 if agrees else 0.0
    for mode, of in (("own", "batch"), ("population", "population"), ("running", "running"), ("batch", "running")):
        yield {**about, "quantity": "loss", "mode": mode, "rows": 1, "value": losses[of] + alone + jitter}
    for step in (9, 19, 29):
        yield {**about, "quantity": "val_gap", "step": step, "progress": (step + 1) / 30, "value": gap + jitter}


def table(agrees: bool, norms: str | None = None) -> pd.DataFrame:
    return made(study(norms=norms).trials(), lambda trial: rows_of(trial, agrees))


def test_verdicts_depend_where_tasks_disagree() -> None:
    first, second = table(True), table(False)
    mixed = pd.concat([first[first["task"] == "order"], second[second["task"] == "language"]])
    assert set(verdicts(study(), mixed).values()) == {"open"}


def test_few_sequences_are_judged_by_what_their_moments_cost_and_one_is_not_judged() -> None:
    """One sequence has variance 0, and stored statistics do not see the batch: both by construction."""
    verdict = next(v for v in study().judge(table(True)) if v.claim.key == "one")
    assert sorted({case.condition.partition(", ")[2] for case in verdict.cases}) == [
        "2 sequences",
        "4 sequences",
        "8 sequences",
    ]
    assert verdict.headline.effect.mean == pytest.approx(0.6)


def test_what_a_small_momentum_costs_is_told_apart_from_its_beginning() -> None:
    """Averages that lose only by beginning at (0, 1) are contradicted as terrible once they are debiased."""
    made_up = table(True)
    running = (made_up["base"] == "bn-timestep:debias=true") & (made_up["mode"] == "running")
    made_up.loc[running & (made_up["quantity"] == "loss"), "value"] = 1.0
    verdict = next(v for v in study().judge(made_up) if v.claim.key == "terrible")
    assert PLAIN[verdict.verdict] == "open"
    held = {case.condition.partition(", ")[2]: case.standing for case in verdict.cases}
    assert held["momentum 0.01"] == "supported"
    assert held["momentum 0.01, debiased"] == "negligible"


def test_effects_are_differences_paired_by_seed() -> None:
    by_key = {verdict.claim.key: verdict for verdict in study().judge(table(True))}
    terrible = by_key["terrible"]
    assert terrible.headline.condition.endswith("momentum 0.1")
    assert terrible.headline.effect.mean == pytest.approx(0.31)
    assert terrible.headline.effect.high == pytest.approx(0.31)  # what all modes of a seed share cancels
    assert len(terrible.cases) == 2 * (3 + 2)
    assert any(case.condition.endswith("plain average") for case in terrible.cases)
    assert by_key["population"].headline.effect.mean == pytest.approx(0.1)
    assert by_key["renorm"].headline.effect.mean == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("norms", "claims"),
    [
        ("ln", set()),
        ("bn-vertical", {"population", "vertical"}),
        ("bn-timestep", {"terrible", "population", "one"}),
        ("brn", {"renorm"}),
    ],
)
def test_claims_without_their_norms_are_left_out(norms: str, claims: set[str], tmp_path: Path) -> None:
    made_up = table(True, norms)
    assert set(verdicts(study(norms=norms), made_up)) == claims
    draw(reread(made_up, tmp_path), tmp_path)
    assert all(isinstance(said, str) for said in study(norms=norms).findings(made_up))


@pytest.mark.parametrize("agrees", [True, False])
def test_findings_are_the_numbers(agrees: bool, tmp_path: Path) -> None:
    text = " ".join(study().findings(reread(table(agrees), tmp_path)))
    assert f"bn-timestep {'+0.310' if agrees else '+0.001'}" in text
    assert "is +0.250 bits for bn-timestep" in text
    assert "none +" not in text  # it has no training mode of its own
    assert "of 3 momenta, plain average (1." in text
    assert re.search(r"by running averages and momentum 0\.1 \(1\.\d+ bits\) worst", text)
    assert "a pass over the training set gives 1.001" in text
    costs = "+0.600 in batches of 2, +0.350" if agrees else "−0.100 in batches of 2, −0.100"
    assert f"{costs} in batches of 4" in text
    assert "diverged" not in text


def test_divergence_is_told_and_in_no_mean() -> None:
    made_up = table(True)
    lost = (made_up["norm"] == "bn-shared") & (made_up["seed"] == 1)
    made_up = made_up[~lost | (made_up["quantity"] == "diverged")]
    made_up.loc[lost & (made_up["quantity"] == "diverged"), "value"] = 1.0
    assert study().findings(made_up)[-1].endswith(" trainings diverged: bn-shared (2).")
    assert verdicts(study(), made_up)["population"] == "supported"


def draw(made_up: pd.DataFrame, folder: Path) -> None:
    files = save_figure(study().panels(made_up), folder, study().question)
    assert all(file.stat().st_size > 10_000 for file in files)


def test_tasks_of_the_users_own_are_drawn(tmp_path: Path) -> None:
    made_up = table(True).replace({"task": {"order": "recall"}})
    draw(made_up, tmp_path)
    assert any(said.startswith("recall: ") for said in study().findings(made_up))


@pytest.mark.parametrize("quick", [True, False])
def test_trials_are_unique_and_have_seeds(quick: bool) -> None:
    trials = study(quick).trials()
    assert len({(t.arm, t.norm, t.seed) for t in trials}) == len(trials)
    assert len({t.seed for t in trials}) >= 3
    swept = {t.norm for t in trials if t.norm.startswith("bn-timestep")}
    momenta = ["0.01", "none"] if quick else ["0.01", "0.05", "0.3", "none"]
    momenta += [f"{m}:debias=true" for m in (("0.01", "0.1") if quick else ("0.01", "0.05", "0.1", "0.3"))]
    assert swept == {"bn-timestep", *(f"bn-timestep:momentum={m}" for m in momenta)}


def test_own_data_are_one_task_of_classes(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("data: {class_path: rnnnorm.data.DelayedRecall}\n")
    trials = study(own=str(tmp_path / "mine.yaml")).trials()
    assert {t.conditions["task"] for t in trials} == {"own"}
    (tmp_path / "mine.yaml").write_text("data: {class_path: rnnnorm.data.AddingProblem}\n")
    with pytest.raises(ValueError, match="regression"):
        study(own=str(tmp_path / "mine.yaml")).trials()


def test_the_base_of_a_norm_has_no_momentum() -> None:
    assert base_of("bn-timestep:momentum=none") == "bn-timestep"
    assert base_of("brn:warmup=1:momentum=0.3:r_end=2") == "brn:warmup=1:r_end=2"


# Regrouped sequences


DATA = Lexicon(num_train=24, num_val=2, num_test=12, min_length=6, max_length=12)


def network(norm: str) -> SequenceTask:
    """With population statistics of its own, so that ways to evaluate it differ."""
    torch.manual_seed(0)
    model = LanguageModelling(DATA.spec, norm=norm, hidden_size=6).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    batches = list(regrouped(DATA.examples("train"), DATA.task, 8))
    recalibrate(model, batches, forward=model.scores)
    model.train()
    with torch.no_grad():
        for batch in batches[:2]:
            model.scores(batch)
    return model.eval()


@pytest.mark.parametrize(("norm", "momentum"), [("ln", None), ("none", None), ("bn-timestep", 0.1)])
def test_the_momentum_of_a_network(norm: str, momentum: float | None) -> None:
    assert momentum_of(network(norm)) == momentum
    if momentum is not None:
        assert momentum_of(network(f"{norm}:momentum=none")) == 0.0
        assert momentum_of(network(f"{norm}:momentum=0.3")) == 0.3


def test_every_sequence_is_in_one_batch_with_those_of_its_length() -> None:
    examples = DATA.examples("test")
    batches = list(regrouped(examples, DATA.task, 5))
    lengths = sorted((len(rows) for rows, _ in examples), reverse=True)
    assert [int(batch.input.batch_sizes[0]) for batch in batches] == [5, 5, 2]
    assert [len(batch.input.batch_sizes) for batch in batches] == lengths[::5]
    assert sum(len(batch.target) for batch in batches) == sum(lengths)
    first = max(examples, key=lambda example: len(example[0]))
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), batches[0].input.batch_sizes.cumsum(0)[:-1]])
    assert batches[0].input.data[starts].equal(first[0])
    assert batches[0].target[starts].equal(first[1])
    assert sum(int(b.input.batch_sizes[0]) for b in regrouped(examples, DATA.task, 5, limit=7)) == 7
    with pytest.raises(ValueError, match="at least 1 sequence, got a size of 0"):
        list(regrouped(examples, DATA.task, 0))


def test_twins_have_no_variance() -> None:
    batches = list(twins(DATA.examples("test"), DATA.task, limit=3))
    assert len(batches) == 3
    for batch, (rows, _) in zip(batches, DATA.examples("test"), strict=False):
        both = batch.input.data.view(len(rows), 2)
        assert both[:, 0].equal(rows[:, 0])
        assert both[:, 1].equal(rows[:, 0])


@pytest.mark.parametrize("mode", ["running", "population"])
def test_stored_statistics_do_not_know_the_company(mode: str) -> None:
    model, examples = network("bn-timestep"), DATA.examples("test")
    bits = [mean_bits(scored(model, list(regrouped(examples, DATA.task, size)), mode)) for size in (1, 3, 12)]
    assert bits == pytest.approx([bits[0]] * 3, rel=1e-5)


def test_a_batchs_own_moments_do() -> None:
    model, examples = network("bn-timestep"), DATA.examples("test")
    bits = [mean_bits(scored(model, list(regrouped(examples, DATA.task, size)), "batch")) for size in (2, 12)]
    assert abs(bits[0] - bits[1]) > 0.01
    alone = mean_bits(scored(model, list(twins(examples, DATA.task)), "batch"))
    assert abs(alone - bits[1]) > 0.01


def test_ways_to_evaluate_are_what_they_say_and_leave_the_network_as_it_was() -> None:
    model = network("bn-timestep")
    batches = list(regrouped(DATA.examples("test"), DATA.task, 4))
    before = deepcopy(model.state_dict())
    found = {mode: mean_bits(scored(model, batches, mode)) for mode in ("running", "population", "training")}
    assert len({round(bits, 4) for bits in found.values()}) == 3
    assert not model.training
    for key, value in model.state_dict().items():
        assert value.equal(before[key]), key
    twin = deepcopy(model).train()
    with torch.no_grad():
        losses = torch.cat([twin.losses(twin(batch.input)[0], batch.target) for batch in batches])
    assert found["training"] == pytest.approx(float(losses.mean()) / math.log(2), rel=1e-5)


def test_bad_requests_are_refused() -> None:
    model = network("ln")
    with pytest.raises(ValueError, match="'sideways'"):
        scored(model, list(regrouped(DATA.examples("test"), DATA.task, 4)), "sideways")
    with pytest.raises(ValueError, match="no batch"):
        scored(model, [], "running")
    with pytest.raises(ValueError, match="width of 0"):
        list(bits_by_step(Scores(*[torch.zeros(1)] * 4), 0))


def test_bits_by_step_are_means_of_ranges() -> None:
    step = torch.tensor([0, 1, 2, 3, 9, 0])
    loss = torch.tensor([1.0, 2.0, 3.0, 5.0, 7.0, 6.0]) * math.log(2)
    found = list(bits_by_step(Scores(loss, loss, step, step), 2))
    assert [(t, n) for t, _, n in found] == [(0, 3), (2, 2), (8, 1)]
    assert [bits for _, bits, _ in found] == pytest.approx([3.0, 4.0, 7.0])


def test_the_gap_during_training_is_of_the_same_step() -> None:
    curves = {
        "val/loss": Curve(np.array([9, 19, 29]), np.array([3.0, 2.0, 1.0])),
        "val/loss_batch": Curve(np.array([9, 29]), np.array([1.0, 0.5])),
    }
    rows = list(validation_gap(curves))
    assert [(row["step"], row["progress"]) for row in rows] == [(9, 1 / 3), (29, 1.0)]
    assert [row["value"] for row in rows] == pytest.approx([2 / math.log(2), 0.5 / math.log(2)])
    assert list(validation_gap({"val/loss": curves["val/loss"]})) == []


def test_a_network_that_diverged_measures_no_more() -> None:
    lost: Any = SimpleNamespace(diverged=True, rows=lambda: iter([{"quantity": "diverged", "value": 1.0}]))
    rows = list(study().measure(Trial({"task": "order"}, "ln", 0, {}), lost))
    assert rows == [{"quantity": "diverged", "value": 1.0}]


def test_the_last_weights_are_evaluated(tmp_path: Path) -> None:
    """A sweep over momenta compares averages of the same weights: the best checkpoint may be another one for each."""
    asked: list[Path] = []

    def model(checkpoint: Path, data: object) -> None:
        asked.append(checkpoint)
        raise InterruptedError

    run = SimpleNamespace(last=tmp_path / "last.ckpt", best=tmp_path / "best.ckpt")
    here: Any = SimpleNamespace(diverged=False, rows=lambda: iter([]), run=run, model=model, data=lambda: None)
    with pytest.raises(InterruptedError):
        list(study().measure(Trial({"task": "order"}, "bn-timestep", 0, {}), here))
    assert asked == [run.last]


def test_a_tiny_run(tmp_path: Path) -> None:
    settings = (
        "seeds: 1\nnorms: [ln, bn-timestep]\n"
        "options: {momenta: [0.1], debiased: [], sizes: [1, 2], num_eval: 8}\n"
        "data: {class_path: rnnnorm.studies.data.languages.Lexicon, init_args: "
        "{num_train: 16, num_val: 4, num_test: 12, min_length: 6, max_length: 12, batch_size: 4}}\n"
        "model: {init_args: {hidden_size: 4}}\ntrainer: {max_epochs: 2}\n"
    )
    m = run_tiny("inference-gap", settings, tmp_path)
    losses = where(m, quantity="loss").dropna(subset=["rows"])
    found = {(row.norm, row.mode, int(row.rows)): row.value for row in losses.itertuples()}
    kinds = [("running", 4), ("population", 4), ("batch", 4), ("training", 4), ("batch", 2), ("own", 1)]
    kinds += [("running", 1), ("population", 1), ("batch", 1)]
    assert set(found) == {("bn-timestep", *kind) for kind in kinds} | {("ln", "running", 4)}
    for mode in ("running", "population"):
        assert found["bn-timestep", mode, 1] == pytest.approx(found["bn-timestep", mode, 4], rel=1e-5)
    assert where(m, norm="bn-timestep", quantity="train_split")["mode"].nunique() == 4
    assert where(m, norm="bn-timestep")["momentum"].dropna().unique().tolist() == [0.1]
    at = where(m, norm="ln", quantity="loss_at")
    mean = (at["value"] * at["count"]).sum() / at["count"].sum()
    assert mean == pytest.approx(found["ln", "running", 4], rel=1e-5)
