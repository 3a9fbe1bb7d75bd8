"""A comparison that is interrupted goes on where it stopped, and ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import lightning as L
import pytest
import torch
from support import TIMELESS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from rnnnorm.engine import trial as trial_module
from rnnnorm.engine.control import Control, Interrupt

if TYPE_CHECKING:
    from at_step import AtStep

    from tests.compare.conftest import Small

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("without_report")]


def weights(folder: Path, name: str) -> dict[str, Any]:
    checkpoint = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return checkpoint["state_dict"]  # type: ignore[no-any-return]


def assert_same_weights(a: Path, b: Path, name: str) -> None:
    first, second = weights(a, name), weights(b, name)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def curves(folder: Path) -> list[tuple[str, int, float]]:
    events = EventAccumulator(str(folder)).Reload()
    return [(tag, p.step, p.value) for tag in ("train/loss", "val/loss") for p in events.Scalars(tag)]


@pytest.mark.parametrize(
    ("step", "number"),
    [(2, signal.SIGINT), (6, signal.SIGINT), (8, signal.SIGTERM), (11, signal.SIGINT)],
    ids=["mid epoch", "end of epoch", "second epoch", "last but one"],
)
def test_an_interrupted_run_resumes_to_the_same_result(
    small: Small, tmp_path: Path, at_step: AtStep, step: int, number: int
) -> None:
    norms, whole = ("--norms", "bn-timestep,none"), tmp_path / "whole"
    assert small(*norms, out=whole) == 0
    pending = [number]
    at_step(step, lambda trainer: os.kill(os.getpid(), pending.pop()) if pending else None)
    assert small(*norms) == 128 + number
    assert "interrupted: 2 runs left; to go on: rnnnorm compare" in small.printed
    folder = small.out / "bn-timestep" / "seed=0"
    assert not (folder / "result.json").exists()
    time.sleep(1 - time.time() % 1)  # TensorBoard orders files of one second by their number as text, 10 before 9
    assert small(*norms) == 0
    for name in ("last", "best"):
        assert_same_weights(folder, whole / "bn-timestep" / "seed=0", name)
    sequences = "bn-timestep/seed=0/test_sequences.npz"
    assert (small.out / sequences).read_bytes() == (whole / sequences).read_bytes()
    for norm in ("bn-timestep", "none"):
        ended, expected = small.result(norm), small.result(norm, out=whole)
        assert ended | TIMELESS == expected | TIMELESS
    assert curves(folder) == curves(whole / "bn-timestep" / "seed=0")


def test_a_killed_run_resumes_from_its_last_checkpoint(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_step: AtStep
) -> None:
    whole = tmp_path / "whole"
    assert small(out=whole) == 0
    monkeypatch.setattr(Control.__init__, "__defaults__", (None, 0.0))  # a checkpoint at each step
    pending = [signal.SIGINT]

    def kill(trainer: L.Trainer) -> None:
        if pending:
            pending.clear()
            raise KeyboardInterrupt

    at_step(4, kill)
    assert small() == 130
    last = torch.load(small.out / "none" / "seed=0" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 3
    assert small() == 0
    for name in ("last", "best"):
        assert_same_weights(small.out / "none" / "seed=0", whole / "none" / "seed=0", name)
    assert curves(small.out / "none" / "seed=0") == curves(whole / "none" / "seed=0")


def test_a_run_killed_before_its_first_checkpoint_logs_no_step_twice(small: Small, at_step: AtStep) -> None:
    pending = [1]

    def kill(trainer: L.Trainer) -> None:
        if pending and pending.pop():
            raise KeyboardInterrupt

    at_step(9, kill)
    assert small() == 130
    folder = small.out / "none" / "seed=0"
    assert list(folder.glob("events*"))
    assert not (folder / "checkpoints" / "last.ckpt").exists()
    assert small() == 0
    steps = [step for tag, step in raw(folder) if tag == "train/loss"]
    assert steps == sorted(set(steps))
    assert len(steps) == 6


def raw(folder: Path) -> list[tuple[str, int]]:
    """Every scalar in every event file, in the order of the files."""
    found = []
    for path in sorted(folder.glob("events*")):
        for event in EventFileLoader(str(path)).Load():
            found += [(value.tag, event.step) for value in event.summary.value]
    return found


def test_a_run_interrupted_while_it_is_evaluated_is_not_trained_again(
    small: Small, monkeypatch: pytest.MonkeyPatch, at_step: AtStep
) -> None:
    with monkeypatch.context() as patch:

        def stop(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(trial_module, "evaluate", stop)
        assert small() == 130
    at_step(12, lambda trainer: pytest.fail("trained again"))
    assert small() == 0
    assert small.result()["steps"] == 12


def test_a_run_killed_while_its_final_results_are_logged_logs_none_twice(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def kill(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(trial_module, "write_json", kill)
        assert small() == 130
    folder = small.out / "none" / "seed=0"
    assert any(tag.startswith("test_by_length/") for tag, _ in raw(folder))
    time.sleep(1 - time.time() % 1)
    assert small() == 0
    final = [point for point in raw(folder) if point[0].startswith("test_by_")]
    assert len(final) == len(set(final))
    events = EventAccumulator(str(folder)).Reload()
    assert {tag for tag, _ in final} <= set(events.Tags()["scalars"])
    assert [point.step for point in events.Scalars("test/accuracy_running")][-1] == 12


def test_the_state_of_a_stream_and_its_random_numbers_survive(small: Small, tmp_path: Path, at_step: AtStep) -> None:
    text = tmp_path / "text"
    text.mkdir()
    for split in ("train", "valid", "test"):
        (text / f"{split}.txt").write_text("the cat sat on the mat and the dog lay on the log\n" * 12)
    stream = [
        "--data",
        "LanguageModel",
        "--data.dataset",
        "folder",
        "--data.folder",
        str(text),
        "--data.mode",
        "stream",
    ]
    stream += ["--data.bptt", "7", "--data.batch_size", "4", "--data.eval_batch_size", "4", "--norms", "bn-vertical"]
    whole = tmp_path / "whole"
    assert small(*stream, out=whole) == 0
    pending = [signal.SIGINT]
    at_step(3, lambda trainer: os.kill(os.getpid(), pending.pop()) if pending else None)
    assert small(*stream) == 130
    assert small(*stream) == 0
    assert_same_weights(small.out / "bn-vertical" / "seed=0", whole / "bn-vertical" / "seed=0", "last")


def test_a_checkpoint_takes_its_place_after_its_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed in between goes on from the checkpoint before."""
    control, did = Control(tmp_path / "last.ckpt", Interrupt(lambda: None), every=0.0), []
    trainer = MagicMock(is_global_zero=True)
    trainer.save_checkpoint.side_effect = lambda path: path.write_text("new")
    trainer.strategy.reduce_boolean_decision.side_effect = lambda decision, all: decision
    trainer.loggers[0].save.side_effect = lambda: did.append(control.path.exists())
    trainer.loggers.__iter__.side_effect = lambda: iter([trainer.loggers[0]])
    control.on_train_epoch_end(trainer, MagicMock())
    assert not control.path.exists()
    control.on_train_batch_start(trainer, MagicMock(), None, 0)
    assert did == [False]
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
