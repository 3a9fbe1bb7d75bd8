"""Trials that fail, diverge, are interrupted or killed do not take the others with them."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import pytest
import torch
from studies.framework.tiny import YAML, Tiny

from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial

if TYPE_CHECKING:
    from at_step import AtStep

    from tests.studies.framework.conftest import Runner

pytestmark = pytest.mark.filterwarnings("ignore")

MEASURE = Tiny.measure


def at(trial: Trial, action: Any, patch: pytest.MonkeyPatch) -> None:
    """Do something in place of one trial's measurement, before it if the action returns."""

    def measure(self: Tiny, one: Trial, trained: Trained | None) -> Iterable[Row]:
        if one == trial:
            action()
        return MEASURE(self, one, trained)

    patch.setattr(Tiny, "measure", measure)


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


LN1 = Trial({"part": "drawn", "size": 2}, "ln", 1)


def test_a_failing_trial_is_recorded_and_tried_again(tiny: Runner, finished: Runner, tmp_path: Path) -> None:
    def fail() -> None:
        raise MemoryError("no memory for this test\nat all")

    whole, out = finished.table(), tmp_path / "other"
    with pytest.MonkeyPatch.context() as patch:
        at(LN1, fail, patch)
        assert tiny(out=out) == 1
    error = LN1.run(out / "tiny").error
    assert "MemoryError: no memory for this test" in error.read_text()
    assert "test_trouble.py" in error.read_text()
    assert "tiny: part=drawn,size=2/ln/seed=1: failed, MemoryError: no memory for this test" in tiny.printed
    assert str(error) in tiny.printed
    assert LN1.read(out / "tiny") is None
    content = json.loads((out / "tiny" / "verdict.json").read_text())
    assert (content["measured"], content["trials"]) == (14, 15)
    assert [v["verdict"] for v in content["verdicts"]] == ["supported", "opposite", "heterogeneous"]
    assert "14 of 15 trials" in (out / "report.html").read_text()
    assert tiny(out=out) == 0
    assert "14 of 15 trials done before: skipped" in tiny.printed
    assert not error.exists()
    assert tiny.table(out).equals(whole)


def test_a_failing_training_is_recorded_and_the_others_go_on(
    tiny: Runner, at_step: AtStep, without_pictures: None
) -> None:
    def fail(trainer: L.Trainer) -> None:
        raise RuntimeError("out of luck")

    at_step(3, fail)
    assert tiny("--seeds", "0,5") == 1
    assert len(list(tiny.out.rglob("error.txt"))) == 2
    assert "out of luck" in tiny.printed
    assert tiny.verdicts()["higher"] == "supported"


def test_a_trial_that_gives_nonsense_fails_alone(tiny: Runner, without_pictures: None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tiny, "measure", lambda s, t, d: [{"quantity": "x"}] if t == LN1 else MEASURE(s, t, d))
        assert tiny() == 1
    assert LN1.run(tiny.folder).error.is_file()
    assert LN1.read(tiny.folder) is None
    assert tiny.verdicts()["higher"] == "supported"


@pytest.mark.parametrize("part", ["judge", "panels", "findings"])
def test_a_study_that_cannot_conclude_does_not_take_the_others_along(tiny: Runner, part: str) -> None:
    tiny.write(YAML.replace("trained: [none]", "trained: []"))

    def fail(*_: Any) -> None:
        raise KeyError("a column that is not there")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tiny, part, fail)
        assert tiny(name="tiny,bare") == 1
        assert "a column that is not there" in tiny.printed
        assert (tiny.folder / "measurements.csv").is_file()
        assert (tiny.out / "bare" / "measurements.csv").is_file()
        assert 'id="bare"' in (tiny.out / "report.html").read_text()
    assert tiny(name="tiny,bare") == 0
    assert tiny.verdicts()["higher"] == "supported"
    assert 'id="tiny"' in (tiny.out / "report.html").read_text()


def test_a_configuration_error_in_one_trial_does_not_end_the_program(tiny: Runner, without_pictures: None) -> None:
    """The parser of LightningCLI leaves by SystemExit."""

    def leave() -> None:
        raise SystemExit(2)

    with pytest.MonkeyPatch.context() as patch:
        at(LN1, leave, patch)
        assert tiny() == 1
    assert LN1.run(tiny.folder).error.is_file()
    assert tiny.verdicts()["higher"] == "supported"


@pytest.mark.parametrize("step", [2, 4, 7], ids=["mid epoch", "end of epoch", "last but one"])
def test_ctrl_c_while_training_leaves_a_usable_folder_and_goes_on(
    tiny: Runner, finished: Runner, tmp_path: Path, at_step: AtStep, step: int
) -> None:
    whole, out = finished.table(), tmp_path / "other"
    pending = [1]
    at_step(step, lambda trainer: press_ctrl_c() if pending and pending.pop() else None)
    before = signal.getsignal(signal.SIGINT)
    assert tiny(out=out) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert "stopping" in tiny.printed
    assert f"interrupted; to go on: rnnnorm study tiny --out {out}" in tiny.printed
    content = json.loads((out / "tiny" / "verdict.json").read_text())
    assert (content["measured"], content["trials"]) == (12, 15)
    assert content["verdicts"][0]["verdict"] == "supported"
    assert "12 of 15 trials" in (out / "report.html").read_text()
    assert tiny(out=out) == 0
    assert "12 of 15 trials done before: skipped" in tiny.printed
    assert tiny.table(out).equals(whole)


def test_ctrl_c_while_measuring_keeps_what_was_measured(tiny: Runner, finished: Runner, tmp_path: Path) -> None:
    whole, out = finished.table(), tmp_path / "other"
    with pytest.MonkeyPatch.context() as patch:
        at(LN1, press_ctrl_c, patch)
        assert tiny(out=out) == 130
    assert LN1.read(out / "tiny") is not None
    assert len(list(out.rglob("measurements.json"))) == 5
    assert tiny(out=out) == 0
    assert tiny.table(out).equals(whole)


def test_ctrl_c_in_the_first_trial_of_all(tiny: Runner) -> None:
    first = Tiny(load("tiny")).trials()[0]
    with pytest.MonkeyPatch.context() as patch:
        at(first, press_ctrl_c, patch)
        assert tiny(name="tiny,bare") == 130
    assert (tiny.out / "report.html").is_file()
    assert not (tiny.out / "bare" / "measurements.csv").exists()


def test_a_second_ctrl_c_stops_at_once(tiny: Runner, without_pictures: None) -> None:
    def twice() -> None:
        press_ctrl_c()
        press_ctrl_c()
        pytest.fail("went on")

    with pytest.MonkeyPatch.context() as patch:
        at(LN1, twice, patch)
        assert tiny() == 130
    assert LN1.read(tiny.folder) is None


def test_another_configuration_does_not_go_on_with_a_half_trained_network(
    tiny: Runner, at_step: AtStep, without_pictures: None
) -> None:
    """A trial that was interrupted in training has a checkpoint and no result yet."""
    tiny.write(YAML.replace("sizes: [2, 0.5]", "sizes: []"))
    pending = [1]
    at_step(2, lambda trainer: press_ctrl_c() if pending and pending.pop() else None)
    assert tiny() == 130
    assert list(tiny.folder.rglob("last.ckpt"))
    tiny.write(YAML.replace("sizes: [2, 0.5]", "sizes: []").replace("learning_rate: 0.01", "learning_rate: 0.5"))
    with pytest.raises(ValueError, match="learning_rate"):
        tiny()
    assert tiny("--overwrite") == 0


def test_a_diverged_network_is_a_result(tiny: Runner, at_step: AtStep) -> None:
    def poison(trainer: L.Trainer) -> None:
        if trainer.lightning_module.hparams["norm"] == "ln":
            with torch.no_grad():
                next(trainer.lightning_module.parameters()).fill_(float("nan"))

    tiny.write(YAML.replace("trained: [none]", "trained: [none, ln]"))
    at_step(2, poison)
    assert tiny("--seeds", "0,1") == 0
    trained = where(tiny.table(), part="trained")
    ln = where(trained, norm="ln")
    assert where(ln, quantity="diverged")["value"].tolist() == [1.0, 1.0]
    assert where(ln, quantity=["train_loss", "val_loss"])["value"].tolist() == [math.inf] * 4
    assert where(ln, quantity="best_val")["value"].isna().all()
    assert where(ln, quantity=["accuracy", "score", "weights"]).empty
    assert where(trained, norm="none", quantity="diverged")["value"].tolist() == [0.0, 0.0]
    assert len(where(trained, norm="none", quantity="accuracy")) == 6
    assert "12 of 12 trials" in (tiny.out / "report.html").read_text()


def test_two_workers_measure_what_one_process_measures(
    finished: Runner, tmp_path: Path, without_pictures: None
) -> None:
    assert finished(jobs=2, out=tmp_path / "two") == 0
    assert finished.table(tmp_path / "two").equals(finished.table())
