"""What the training of a trial left behind."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from studies.framework.tiny import Tiny

from rnnnorm.engine.control import Interrupt
from rnnnorm.engine.evaluation import MODES
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.framework.work import work

if TYPE_CHECKING:
    from tests.studies.framework.conftest import Runner

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def trained(finished: Runner, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """That of one trial, as `measure` gets it."""
    study = Tiny(load("tiny"))
    trial = next(trial for trial in study.trials() if trial.config is not None)
    trial.measured(finished.folder).unlink()
    seen: list[Trained] = []
    monkeypatch.setattr(Tiny, "measure", lambda self, trial, trained: seen.append(trained) or [])
    work(study, trial, finished.folder, Interrupt(lambda: None))
    return seen[0]


def test_the_network_is_that_of_the_best_checkpoint_and_rests(trained: Trained) -> None:
    model = trained.model()
    assert not model.training
    saved = torch.load(trained.run.best, weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())
    last = trained.model(trained.run.last)
    saved = torch.load(trained.run.last, weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[key]) for key, value in last.state_dict().items())
    assert trained.model() is not model


class Evil:
    """Whoever unpickles it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return open, (str(self.marker), "w")


def test_a_checkpoint_runs_no_code(trained: Trained, tmp_path: Path) -> None:
    saved = torch.load(trained.run.best, weights_only=True)
    torch.save({**saved, "hyper_parameters": {"norm": Evil(tmp_path / "it-ran")}}, tmp_path / "x.ckpt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only"):
        trained.model(tmp_path / "x.ckpt")
    assert not (tmp_path / "it-ran").exists()


def test_it_scores_what_the_result_says(trained: Trained) -> None:
    model, data = trained.model(), trained.data()
    right = total = 0
    with torch.no_grad():
        for batch in data.test_dataloader():
            logits, _ = model(batch.input)
            right += int((logits.argmax(-1) == batch.target).sum())
            total += len(batch.target)
    assert total == 20
    assert right / total == pytest.approx(trained.result["test"]["running"]["accuracy"])


def test_its_curves_are_those_of_the_training(trained: Trained) -> None:
    assert {"train/loss", "val/loss"} <= set(trained.curves)
    assert trained.curves["val/loss"].value.shape == (2,)
    rows = {row["quantity"]: row["value"] for row in trained.rows()}
    assert rows["val_loss"] == pytest.approx(trained.curves["val/loss"].value[-1])


def test_its_rows_name_every_mode_and_bucket(trained: Trained) -> None:
    rows = list(trained.rows())
    for metric in ("accuracy", "loss"):
        assert [row["mode"] for row in rows if row["quantity"] == metric] == list(MODES)
    buckets = [row for row in rows if row["quantity"] == "score" and row["mode"] == "running"]
    for axis in ("length", "step"):
        assert sum(row["count"] for row in buckets if row["axis"] == axis) == 20
    keys = [tuple((k, v) for k, v in row.items() if k != "value") for row in rows]
    assert len(set(keys)) == len(keys)


def test_without_a_checkpoint_there_is_no_network(trained: Trained) -> None:
    for path in (trained.run.best, trained.run.last):
        path.unlink()
    with pytest.raises(FileNotFoundError):
        trained.model()


def test_a_trial_that_was_measured_is_left_alone(finished: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tiny, "measure", lambda *_: pytest.fail("measured again"))
    study = Tiny(load("tiny"))
    for trial in study.trials():
        work(study, trial, finished.folder, Interrupt(lambda: None))


def test_trials_of_one_arm_may_be_configured_differently(tiny: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load("tiny")
    trials = [
        Trial({"part": "trained"}, norm, 0, settings.configured(model={"hidden_size": size}))
        for norm, size in (("none", 3), ("ln", 5))
    ]
    monkeypatch.setattr(
        Tiny, "measure", lambda self, trial, trained: [{"quantity": "H", "value": trained.model().hparams.hidden_size}]
    )
    for trial in trials:
        work(Tiny(settings), trial, tiny.folder, Interrupt(lambda: None))
    assert [trial.read(tiny.folder) for trial in trials] == [[{"quantity": "H", "value": size}] for size in (3, 5)]


def test_what_a_study_draws_depends_on_the_seed_and_not_on_what_ran_before(
    tiny: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Even if it forgets to say from which seed."""
    monkeypatch.setattr(
        Tiny, "measure", lambda *_: [{"quantity": "x", "value": torch.rand(())}, {"quantity": "y", "value": 1.0}]
    )
    study = Tiny(load("tiny"))
    found = []
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(len(found) + 1)
        trial = Trial({"a": 1}, "ln", seed)
        work(study, trial, tmp_path / place, Interrupt(lambda: None))
        found.append(trial.read(tmp_path / place))
    assert found[0] == found[1]
    assert found[0] != found[2]
