"""Runs that diverge, fail or run out of time do not take the others with them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L
import pytest
import torch
from support import TIMELESS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rnnnorm.engine.control import Control, Interrupt
from rnnnorm.engine.evaluation import MODES
from rnnnorm.engine.progress import Display

if TYPE_CHECKING:
    from at_step import AtStep

    from tests.compare.conftest import Small

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("without_report")]


def test_a_diverged_run_is_a_result_and_the_others_go_on(small: Small, at_step: AtStep) -> None:
    def poison(trainer: L.Trainer) -> None:
        if trainer.lightning_module.hparams["norm"] == "ln":
            with torch.no_grad():
                next(trainer.lightning_module.parameters()).fill_(float("nan"))

    at_step(3, poison)
    assert small("--norms", "ln,none") == 0
    found = small.result("ln")
    assert (found["status"], found["diverged_at"]) == ("diverged", 3)
    assert found["best_val"] is None
    assert found["test"] == {}
    assert small.result("none")["status"] == "finished"


def test_a_run_that_diverges_after_a_checkpoint_is_tested_with_it(small: Small, at_step: AtStep) -> None:
    def poison(trainer: L.Trainer) -> None:
        with torch.no_grad():
            next(trainer.lightning_module.parameters()).fill_(float("nan"))

    at_step(8, poison)
    assert small() == 0
    found = small.result()
    assert (found["status"], found["diverged_at"], found["best_step"]) == ("diverged", 8, 6)
    assert 0 <= found["test"]["running"]["accuracy"] <= 1


def test_a_run_that_fails_is_recorded_and_tried_again(small: Small, at_step: AtStep) -> None:
    broken = ["ln"]

    def fail(trainer: L.Trainer) -> None:
        if trainer.lightning_module.hparams["norm"] in broken:
            raise MemoryError("no memory for this test")

    at_step(3, fail)
    assert small("--norms", "ln,none") == 1
    folder = small.out / "ln" / "seed=0"
    assert "no memory for this test" in (folder / "error.txt").read_text()
    assert "failed, MemoryError: no memory for this test" in small.printed
    assert str(folder / "error.txt") in small.printed
    assert not (folder / "result.json").exists()
    assert small.result("none")["status"] == "finished"
    broken.clear()
    assert small("--norms", "ln,none") == 0
    assert not (folder / "error.txt").exists()


def test_time_is_shared_among_the_runs_and_those_that_need_more_are_cut(small: Small) -> None:
    assert small("--norms", "none,ln", "--trainer.max_epochs", "1000", "--max-minutes", "0.05") == 0
    assert "out of time: 2 of 2 runs cut; to go on: rnnnorm compare" in small.printed
    assert "(out of time)" in small.printed
    for norm in ("none", "ln"):
        found = small.result(norm)
        assert found["status"] == "cut"
        assert 0 < found["steps"] < 6000


def cut_at(step: int, at_step: AtStep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let time run out at a step of every run."""
    over = [False]
    at_step(step, lambda trainer: over.__setitem__(0, True))
    monkeypatch.setattr(Control, "_is_over", lambda self, now: self.deadline is not None and over[0])


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    """What TensorBoard shows."""
    events = EventAccumulator(str(folder)).Reload()
    found = events.Scalars(tag) if tag in events.Tags()["scalars"] else []
    return [(point.step, point.value) for point in found]


@pytest.mark.parametrize("step", [2, 6, 8, 11], ids=["mid epoch", "end of epoch", "second epoch", "last but one"])
def test_a_run_that_was_cut_goes_on_to_the_same_result(
    small: Small, tmp_path: Path, at_step: AtStep, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    norms, whole = ("--norms", "bn-timestep"), tmp_path / "whole"
    assert small(*norms, out=whole) == 0
    with monkeypatch.context() as patch:
        cut_at(step, at_step, patch)
        assert small(*norms, "--max-minutes", "10") == 0
    found = small.result("bn-timestep")
    assert (found["status"], found["steps"], found["best_step"]) == ("cut", step, 6 if step >= 6 else None)
    assert set(found["test"]) == set(MODES)
    assert "out of time: 1 of 1 run cut" in small.printed
    assert not points(small.out / "bn-timestep" / "seed=0", "test/accuracy_running"), "they would not be the last ones"
    time.sleep(1 - time.time() % 1)  # TensorBoard orders files of one second by their number as text, 10 before 9
    assert small(*norms) == 0
    expected = small.result("bn-timestep", out=whole)
    assert small.result("bn-timestep") | TIMELESS == expected | TIMELESS
    folders = [out / "bn-timestep" / "seed=0" for out in (small.out, whole)]
    for tag in ("train/loss", "val/loss", "val/accuracy"):
        resumed, in_one = (points(folder, tag) for folder in folders)
        assert resumed == in_one, tag


def test_the_evaluation_of_a_run_that_was_cut_ends_in_time_and_that_of_another_one_is_whole(
    small: Small, at_step: AtStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms, shown = ("--norms", "bn-timestep"), list[str]()
    monkeypatch.setattr(Display, "step", lambda self, done, total, note: shown.append(note))
    with monkeypatch.context() as patch:
        cut_at(8, at_step, patch)
        assert small(*norms, "--max-minutes", "0.0001") == 0
    found = small.result("bn-timestep")
    assert (found["status"], found["test"]) == ("cut", {})
    assert "1 of 1 runs cut by the time limit, neither ranked nor averaged: bn-timestep/seed=0 at" in small.printed
    shown.clear()
    assert small(*norms, "--max-minutes", "0.0001") == 0
    assert small.result("bn-timestep")["status"] == "cut", "one step further"
    assert small(*norms) == 0
    assert set(small.result("bn-timestep")["test"]) == set(MODES)
    notes = [note for note in dict.fromkeys(shown) if "loss" not in note]
    assert notes == ["test, running", "population statistics", "test, population", "test, batch"]


def test_a_run_whose_time_is_up_when_it_ends_has_ended(
    small: Small, at_step: AtStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_at(12, at_step, monkeypatch)
    assert small("--max-minutes", "10") == 0
    assert small.result()["status"] == "finished"
    assert "out of time" not in small.printed


def test_a_result_of_an_earlier_version_that_was_cut_is_gone_on_with(small: Small) -> None:
    assert small() == 0
    path = small.out / "none" / "seed=0" / "result.json"
    path.write_text(json.dumps(small.result() | {"out_of_time": True}))
    assert small("--max-minutes", "0.0000001") == 0
    assert "out of time: 1 run left" in small.printed
    assert "1 of 1 runs cut by the time limit" in small.printed
    assert small() == 0
    assert small.result().get("out_of_time") is None


def test_time_is_kept_for_the_evaluation_as_training_is_fast() -> None:
    control = Control(Path("last.ckpt"), Interrupt(lambda: None), deadline=1000.0)
    control._began = control._resumed = 900.0
    control._rows, control.evaluated_rows = 50, 100
    assert not control._is_over(950.0), "40 seconds are needed for twice the rows that training had in 50"
    assert control._is_over(960.0)
    control.evaluated_rows = 100_000
    assert not control._is_over(999.0), "there is no time for it, so all is for training"
    assert control._is_over(1001.0)


def test_runs_that_do_not_fit_into_the_time_wait_for_the_next_time(small: Small) -> None:
    assert small("--max-minutes", "0.0000001") == 0
    assert "out of time: 1 run left" in small.printed
    assert small() == 0
    assert small.result()["steps"] == 12
