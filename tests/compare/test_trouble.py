"""Runs that diverge, fail or run out of time do not take the others with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightning as L
import pytest
import torch

if TYPE_CHECKING:
    from tests.compare.conftest import AtStep, Small

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


def test_time_is_shared_among_the_runs(small: Small) -> None:
    assert small("--norms", "none,ln", "--trainer.max_epochs", "1000", "--max-minutes", "0.05") == 0
    for norm in ("none", "ln"):
        found = small.result(norm)
        assert found["status"] == "finished"
        assert found["out_of_time"]
        assert 0 < found["steps"] < 6000
        assert found["best_val"] is not None


def test_runs_that_do_not_fit_into_the_time_wait_for_the_next_time(small: Small) -> None:
    assert small("--max-minutes", "0.0000001") == 0
    assert "out of time: 1 run left" in small.printed
    assert small() == 0
    assert small.result()["steps"] == 12
