"""`rnnnorm compare --tune` on a small problem: what is run, in which order, with what, and what it leaves."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import lightning as L
import pytest
import torch
import yaml
from rich.console import Console
from support import TIMELESS

from rnnnorm.compare import tuning
from rnnnorm.compare.comparison import Comparison
from rnnnorm.data.module import SequenceDataModule
from rnnnorm.engine.control import Control, Interrupt
from rnnnorm.engine.progress import Display
from rnnnorm.engine.run import TuningRun
from rnnnorm.engine.scores import ValidationScores
from rnnnorm.engine.trial import train
from rnnnorm.report import overview
from rnnnorm.tasks.divergence import StopOnDivergence

if TYPE_CHECKING:
    from tests.compare.conftest import AtStep, Small

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("without_report")]

FEW = ("--tune", "model.learning_rate=lin:0.001..0.1", "--tune-trials", "3")
"""Three trials, and a range that is not widened."""


def trials(out: Path) -> dict[str, dict[str, Any]]:
    found = (out / "tuning").glob("*/round=*/trial=*/result.json")
    return {str(path.parent.relative_to(out / "tuning")): json.loads(path.read_text()) for path in found}


def without_time(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: result | TIMELESS for name, result in results.items()}


def choices(out: Path) -> dict[tuple[str, int], dict[str, Any]]:
    content = json.loads((out / "tuning.json").read_text())
    return {(c["norm"], c["round"]): c["values"] for c in content["choices"]}


def configured(out: Path, norm: str, seed: int) -> float:
    config = yaml.safe_load((out / norm / f"seed={seed}" / "config.yaml").read_text())
    return float(config["model"]["init_args"]["learning_rate"])


def test_final_runs_have_the_values_of_the_best_trials(small: Small) -> None:
    assert small("--norms", "none,bn-timestep", "--seeds", "0,7", *FEW) == 0
    found = trials(small.out)
    assert len(found) == 6
    assert {result["seed"] for result in found.values()} == {1000}
    rates = [
        {name.rpartition("/")[2]: result["values"] for name, result in found.items() if result["norm"] == norm}
        for norm in ("none", "bn-timestep")
    ]
    assert rates[0] == rates[1]
    for norm in ("none", "bn-timestep"):
        best = max((r for r in found.values() if r["norm"] == norm), key=lambda r: (r["best_val"], r["seed"]))
        chosen = choices(small.out)[norm, 0]
        assert max(s for _, s in best["scores"]) == best["best_val"]
        own = next(r for r in found.values() if r["norm"] == norm and r["values"] == chosen)
        assert own["best_val"] == best["best_val"]
        for seed in (0, 7):
            assert configured(small.out, norm, seed) == chosen["model.learning_rate"]
            hyper = yaml.safe_load((small.out / norm / f"seed={seed}" / "hparams.yaml").read_text())
            assert hyper["learning_rate"] == chosen["model.learning_rate"]
    assert "tuning 2 norms: 6 trials" in small.printed
    assert "[6/6] tuning/bn-timestep/round=0/trial=2: learning_rate" in small.printed
    assert "Each norm has its own learning rate: the best of 3 trials by validation accuracy." in small.printed


def test_trials_are_no_runs_and_leave_neither_checkpoints_nor_curves(small: Small) -> None:
    assert small(*FEW) == 0
    left = {p.name for p in (small.out / "tuning").rglob("*") if p.is_file() and "tfevents" not in p.name}
    assert left == {"result.json"}
    assert len([*(small.out / "tuning").rglob("*tfevents*")]) == 1, "the figures"
    assert overview(small.out).renderables[0].row_count == 1
    lines = (small.out / "tuning.csv").read_text().splitlines()
    assert lines[0].startswith("norm,round,trial,seed,model.learning_rate,status")
    assert sum(line.endswith(",1") for line in lines[1:]) == 1
    assert len(lines) == 4


def test_without_tuning_the_table_says_that_all_share_one_rate(small: Small) -> None:
    assert small() == 0
    assert "All norms share one learning rate, 0.001" in small.printed
    assert not (small.out / "tuning").exists()
    assert "tune" not in (small.out / "compare.yaml").read_text()


def test_the_test_split_is_not_touched(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = Comparison(["-c", str(small.config), "--out", str(small.out), *FEW])

    def refuse(self: Any) -> None:
        raise AssertionError("the test split")

    monkeypatch.setattr(SequenceDataModule, "test_dataloader", refuse)
    with pytest.raises(AssertionError, match="the test split"):
        comparison.build_data().test_dataloader()
    assert comparison.search is not None
    found = tuning.tune(comparison, comparison.search, 1, Console(quiet=True), None)
    assert found.outcome.code == 0
    assert found.values is not None
    assert not any("test" in result for result in trials(small.out).values())


def run_of(out: Path, norm: str, rate: float = 0.02) -> TuningRun:
    return TuningRun(norm, 1000, out, (("model.learning_rate", rate),), 0, "0")


@pytest.mark.parametrize("norm", ["none", "bn-timestep"])
def test_a_paused_trial_ends_with_the_bits_of_one_that_ran_through(small: Small, tmp_path: Path, norm: str) -> None:
    ends = {}
    for stops in ((None,), (1, 2, None), (2, None)):
        out = tmp_path / str(len(ends))
        args = ["-c", str(small.config), "--out", str(out), "--trainer.max_epochs", "4", "--model.lr_decay", "0.5"]
        comparison, one = Comparison([*args, *FEW]), run_of(out, norm)
        for until in stops:
            result = train(comparison, one, Interrupt(lambda: None), Display(Console(quiet=True)), None, until)
            assert (result["status"], result["epochs"]) == (("paused", until) if until else ("finished", 4))
            assert [epoch for epoch, _ in result["scores"]] == [*range(1, (until or 4) + 1)]
        checkpoints = [torch.load(path, weights_only=True) for path in (one.last, one.best)]
        ends[stops] = (result | TIMELESS, [c["state_dict"] for c in checkpoints], checkpoints[0])
    (whole, weights, last), *others = ends.values()
    assert last["lr_schedulers"][0]["last_epoch"] == 4
    for result, parts, other in others:
        assert result == whole
        assert other["optimizer_states"][0]["param_groups"] == last["optimizer_states"][0]["param_groups"]
        for a, b in zip(weights, parts, strict=True):
            assert a.keys() == b.keys()
            assert all(torch.equal(a[name], b[name]) for name in a)


def test_halving_trains_fewer_epochs_and_the_survivors_are_bit_identical(small: Small, tmp_path: Path) -> None:
    args = ("--norms", "none,bn-vertical", "--trainer.max_epochs", "4", "--tune-trials", "4", *FEW[:2])
    assert small(*args) == 0
    halved = tmp_path / "halved"
    assert small(*args, "--tune-halving", "2", out=halved) == 0
    whole, part = trials(small.out), trials(halved)
    assert sorted(result["epochs"] for result in part.values()) == [1, 1, 1, 1, 2, 2, 4, 4]
    for name, result in part.items():
        assert result["values"] == whole[name]["values"]
        assert result["scores"] == whole[name]["scores"][: len(result["scores"])]
    assert "to epoch 2 of 4" in small.printed
    content = json.loads((halved / "tuning.json").read_text())
    assert content["rungs"] == [1, 2, 4]


def test_jobs_do_not_matter(small: Small, tmp_path: Path) -> None:
    args = ("--norms", "none,bn-timestep", "--tune-halving", "2", *FEW[:2], "--tune-trials", "2")
    assert small(*args, "--threads", "1") == 0
    jobs = tmp_path / "jobs"
    assert small(*args, "--jobs", "2", out=jobs) == 0
    assert without_time(trials(jobs)) == without_time(trials(small.out))
    assert choices(jobs) == choices(small.out)
    for norm in ("none", "bn-timestep"):
        first, second = (small.result(norm, out=out) | TIMELESS for out in (small.out, jobs))
        assert first == second


def test_each_round_has_its_own_points_and_seed_and_the_final_seeds_are_dealt_out(small: Small) -> None:
    assert small("--seeds", "3,8,5", "--tune-rounds", "2", *FEW) == 0
    found = trials(small.out)
    assert {result["seed"] for name, result in found.items() if "round=1" in name} == {1001}
    first, second = (found[f"none/round={r}/trial=0"]["values"] for r in (0, 1))
    assert first != second
    rates = [choices(small.out)["none", r]["model.learning_rate"] for r in (0, 1)]
    assert [configured(small.out, "none", seed) for seed in (3, 8, 5)] == [rates[0], rates[1], rates[0]]


@pytest.mark.parametrize("step", [3, 6])
def test_an_interrupted_search_goes_on_and_repeats_nothing(
    small: Small, tmp_path: Path, at_step: AtStep, step: int
) -> None:
    args = ("--norms", "none,bn-timestep", *FEW)
    whole = tmp_path / "whole"
    assert small(*args, out=whole) == 0
    begun: list[str] = []

    def stop(trainer: L.Trainer) -> None:
        begun.append(str(trainer.default_root_dir))
        if len(begun) == 4:
            os.kill(os.getpid(), signal.SIGINT)

    at_step(step, stop)
    assert small(*args) == 130
    assert "interrupted: 3 trials left; to go on: rnnnorm compare" in small.printed
    assert not (small.out / "tuning.json").exists()
    assert not (small.out / "none" / "seed=0").exists()
    done = {name: (small.out / "tuning" / name / "result.json").stat().st_mtime_ns for name in trials(small.out)}
    assert len(done) == 3
    assert small(*args) == 0
    assert "3 trials; 3 done before" in small.printed
    for name, changed in done.items():
        assert (small.out / "tuning" / name / "result.json").stat().st_mtime_ns == changed
    assert without_time(trials(small.out)) == without_time(trials(whole))
    assert choices(small.out) == choices(whole)
    for norm in ("none", "bn-timestep"):
        assert small.result(norm) | TIMELESS == small.result(norm, out=whole) | TIMELESS


def test_time_that_is_up_leaves_a_search_that_goes_on(small: Small) -> None:
    assert small(*FEW, "--max-minutes", "0.000001") == 0
    assert "out of time: 3 trials left" in small.printed
    assert not trials(small.out)
    assert small(*FEW) == 0
    assert len(trials(small.out)) == 3


def test_more_trials_and_rounds_extend_a_search(small: Small, tmp_path: Path) -> None:
    small_search = ("--seeds", "2", "--tune", "model.learning_rate=lin:0.001..0.1")
    assert small(*small_search, "--tune-trials", "1") == 0
    before = {name: (small.out / "tuning" / name / "result.json").stat().st_mtime_ns for name in trials(small.out)}
    more = ("--tune-trials", "3", "--tune-rounds", "2")
    assert small(*small_search, *more) == 0
    assert "tuning 1 norm: 5 trials; 1 done before" in small.printed
    after = {name: (small.out / "tuning" / name / "result.json").stat().st_mtime_ns for name in before}
    assert after == before
    whole = tmp_path / "whole"
    assert small(*small_search, *more, out=whole) == 0
    assert choices(small.out) == choices(whole)
    for seed in (0, 1):
        assert configured(small.out, "none", seed) == choices(whole)["none", seed]["model.learning_rate"]
        assert small.result(seed=seed) | TIMELESS == small.result(seed=seed, out=whole) | TIMELESS
    with pytest.raises(ValueError, match="tune_trials: 3 there, 2 now"):
        small(*small_search, "--tune-trials", "2", "--tune-rounds", "2")


def test_another_search_in_the_same_folder_is_refused_unless_overwritten(small: Small) -> None:
    assert small(*FEW) == 0
    with pytest.raises(ValueError, match=r"tune.model.learning_rate: lin:0.001..0.1 there, lin:0.001..0.2 now"):
        small("--tune", "model.learning_rate=lin:0.001..0.2", "--tune-trials", "3")
    with pytest.raises(ValueError, match="tune_halving: 0 there, 2 now"):
        small(*FEW, "--tune-halving", "2")
    with pytest.raises(ValueError, match=r"tune: .* there, None now"):
        small()
    assert small("--overwrite") == 0
    assert not (small.out / "tuning").exists()
    assert not (small.out / "tuning.json").exists()
    assert configured(small.out, "none", 0) == 0.001
    with pytest.raises(ValueError, match="tune: None there"):
        small(*FEW)


def test_the_configuration_of_a_comparison_runs_it_again(small: Small, tmp_path: Path) -> None:
    assert small(*FEW) == 0
    again = tmp_path / "again"
    config = tmp_path / "again.yaml"
    shutil.copy(small.out / "compare.yaml", config)
    small.config = config
    assert small("--norms", "none", out=again) == 0
    assert choices(again) == choices(small.out)


def test_a_range_is_widened_for_all_norms(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger rates are better for one of the two."""

    def score(self: ValidationScores, trainer: L.Trainer, model: L.LightningModule) -> None:
        rate = model.hparams["learning_rate"]
        best = 1.0 if model.hparams["norm"] == "ln" else 1e-4
        self.seen.append((trainer.current_epoch + 1, -abs(math.log(rate / best))))
        self.validations += 1

    monkeypatch.setattr(ValidationScores, "on_validation_end", score)
    low = ("--tune", "model.learning_rate=log:1e-5..1e-3", "--tune-trials", "3", "--norms", "none,ln")
    assert small(*low, "--trainer.max_epochs", "1") == 0
    content = json.loads((small.out / "tuning.json").read_text())
    names = [{t["trial"] for t in content["records"] if t["norm"] == norm} for norm in ("none", "ln")]
    assert names[0] == names[1]
    assert [(w["end"], w["times"]) for w in content["widened"]] == [("high", 1), ("high", 2)]
    assert len(names[0]) == 3 + 2
    edges = {choice["norm"]: choice["edges"] for choice in content["choices"]}
    assert edges == {"none": {}, "ln": {"model.learning_rate": "high"}}
    assert "the range being widened" in small.printed


def test_trials_that_diverge_are_never_chosen(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    look = StopOnDivergence._look

    def diverge(self: Any, trainer: L.Trainer, stage: str, loss: torch.Tensor) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        bad = trainer.global_step >= 8 and rate > limit[0] and not trainer.testing
        look(self, trainer, stage, loss * torch.nan if bad else loss)

    monkeypatch.setattr(StopOnDivergence, "_look", diverge)
    limit = [0.05]
    assert small(*FEW) == 0
    found = {result["values"]["model.learning_rate"]: result for result in trials(small.out).values()}
    assert {rate: result["status"] for rate, result in found.items()} == {
        rate: "diverged" if rate > 0.05 else "finished" for rate in found
    }
    assert any(rate > 0.05 for rate in found)
    assert choices(small.out)["none", 0]["model.learning_rate"] < 0.05
    limit[0] = 0.0005
    out = small.out.parent / "all"
    assert small(*FEW, out=out) == 0
    assert choices(out)["none", 0] is None
    assert configured(out, "none", 0) == 0.001, "as configured"
    assert small(*FEW, out=out) == 0
    assert "1 of 1 runs have been finished before" in small.printed


def test_a_trial_of_other_values_or_a_broken_one_is_run_again(small: Small) -> None:
    assert small(*FEW) == 0
    before = without_time(trials(small.out))
    folder = small.out / "tuning" / "none" / "round=0"
    other = json.loads((folder / "trial=0" / "result.json").read_text())
    (folder / "trial=0" / "result.json").write_text(json.dumps(other | {"values": {"model.learning_rate": 1.0}}))
    (folder / "trial=1" / "result.json").write_text("{")
    assert small(*FEW) == 0
    assert "tuning 1 norm: 2 trials; 1 done before" in small.printed
    assert without_time(trials(small.out)) == before


def test_a_search_needs_validation(small: Small) -> None:
    assert small(*FEW, "--trainer.limit_val_batches", "0") == 1
    assert "nothing was validated: a search compares runs by val/accuracy" in small.printed
    assert not (small.out / "none").exists()


def test_a_killed_trial_resumes_at_its_rung(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checkpoint was written, its result was not: it is paused again before the next step."""
    comparison = Comparison(["-c", str(small.config), "--out", str(small.out), *FEW])
    one = run_of(small.out, "none")
    first = train(comparison, one, Interrupt(lambda: None), Display(Console(quiet=True)), None, 1)
    one.result.unlink()
    with patch.object(Control, "on_train_batch_end", side_effect=AssertionError("trained")):
        again = train(comparison, one, Interrupt(lambda: None), Display(Console(quiet=True)), None, 1)
    assert again | TIMELESS == first | TIMELESS


def test_a_score_that_is_not_finite_is_the_worst(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the perplexity of a loss of 100, of a model that has not diverged."""
    limit = [0.05]
    before = ValidationScores.on_validation_end

    def infinite(self: ValidationScores, trainer: L.Trainer, model: L.LightningModule) -> None:
        seen: Any = trainer
        if trainer.optimizers[0].param_groups[0]["lr"] > limit[0]:
            same = {name: getattr(trainer, name) for name in ("sanity_checking", "callbacks", "current_epoch")}
            seen = SimpleNamespace(**same, callback_metrics={self.tag: torch.tensor(math.inf)})
        before(self, seen, model)

    monkeypatch.setattr(ValidationScores, "on_validation_end", infinite)
    assert small(*FEW) == 0
    assert choices(small.out)["none", 0]["model.learning_rate"] < 0.05
    limit[0] = -1.0
    assert small(*FEW, out=(out := small.out.parent / "all")) == 0
    assert choices(out)["none", 0] is None
    assert configured(out, "none", 0) == 0.001, "as configured"
