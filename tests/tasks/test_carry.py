"""The stateful stream: state goes on from batch to batch, in each stage by itself, and survives a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from tasks.tiny import SPECS, Batches, model_of, packed, stream_of, trainer_of

from rnnnorm.data.base import Batch
from rnnnorm.nn.recurrent import NETWORKS
from rnnnorm.norms import statistics
from rnnnorm.tasks import SequenceTask
from rnnnorm.tasks.carry import CarriedStates

SPEC = SPECS["language-modelling"]


class StatefulLoader:
    """Batches in order; knows where it stopped."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches, self.next = batches, 0

    def __iter__(self) -> Iterator[Batch]:
        while self.next < len(self.batches):
            self.next += 1
            yield self.batches[self.next - 1]
        self.next = 0

    def __len__(self) -> int:
        return len(self.batches)

    def state_dict(self) -> dict[str, Any]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.next = state["next"]


@pytest.mark.parametrize(
    ("task", "norm", "cell"),
    [
        *((task, norm, "lstm") for task in ("language-modelling", "multi-label") for norm in ("none", "bn-vertical")),
        *(("language-modelling", "ln", cell) for cell in NETWORKS),
    ],
)
def test_stream_in_pieces_equals_one_long_sequence(task: str, norm: str, cell: str) -> None:
    pieces, whole = stream_of(SPECS[task], steps=8)
    model = model_of(task, norm=norm, cell=cell, num_layers=2).eval()
    assert len(pieces) == 2
    in_pieces = torch.cat([model.scores(piece).loss for piece in pieces])
    torch.testing.assert_close(in_pieces, model.scores(whole).loss)


def test_a_batch_that_does_not_continue_starts_anew() -> None:
    (first, second), _ = stream_of(SPEC, steps=8)
    model = model_of("language-modelling").eval()
    model.scores(first)
    continued = model.scores(second).loss
    fresh = model.scores(second._replace(continues=False)).loss
    assert not torch.allclose(continued, fresh)
    torch.testing.assert_close(fresh, model_of("language-modelling").eval().scores(second).loss)


def test_validation_logs_the_loss_of_the_long_sequence() -> None:
    pieces, whole = stream_of(SPEC, steps=10)
    model = model_of("language-modelling")
    logged = trainer_of().validate(model, pieces, verbose=False)[0]
    assert logged["val/loss"] == pytest.approx(model.eval().scores(whole).loss.mean().item(), rel=1e-5)


def test_validation_under_the_batch_statistics_carries_a_state_of_its_own() -> None:
    pieces, _ = stream_of(SPEC, steps=10)
    model = model_of("language-modelling", norm="bn-shared")
    with statistics(model, "running"):
        logged = trainer_of().validate(model, pieces, verbose=False)[0]
    model.eval()
    running = torch.cat([model.scores(piece).loss for piece in pieces]).mean()
    with statistics(model, "batch"):
        own = torch.cat([model.scores(piece).loss for piece in pieces]).mean()
    assert logged["val/loss"] == pytest.approx(running.item(), rel=1e-6)
    assert logged["val/loss_batch"] == pytest.approx(own.item(), rel=1e-6)


def test_gradients_stop_between_batches() -> None:
    (first, second), _ = stream_of(SPEC, steps=8)
    model = model_of("language-modelling")
    model.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    model.training_step(first).backward()
    model.training_step(second).backward()  # would fail if it reached into the first graph


def fit(model: SequenceTask, batches: Batches, val: Batches | None = None, **keys: Any) -> L.Trainer:
    trainer = trainer_of(**keys)
    trainer.fit(model, StatefulLoader(batches), val)
    return trainer


def test_validation_in_the_middle_of_an_epoch_leaves_the_training_state_alone() -> None:
    pieces, _ = stream_of(SPEC, steps=16)
    val, _ = stream_of(SPEC, steps=8, sequences=5, seed=1)
    plain, interrupted = model_of("language-modelling"), model_of("language-modelling")
    fit(plain, pieces)
    fit(interrupted, pieces, val, val_check_interval=1)
    weights = interrupted.state_dict()
    assert all(torch.equal(weights[n], w) for n, w in plain.state_dict().items())


@pytest.mark.parametrize("norm", ["none", "bn-shared"])
def test_resuming_in_the_middle_of_an_epoch_equals_never_having_stopped(norm: str, tmp_path: Path) -> None:
    pieces, _ = stream_of(SPEC, steps=20)
    through = model_of("language-modelling", norm=norm)
    checkpoint = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=2, save_top_k=-1)
    fit(through, pieces, callbacks=[checkpoint], enable_checkpointing=True)
    torch.manual_seed(99)
    resumed = model_of("language-modelling", norm=norm)
    trainer_of().fit(resumed, StatefulLoader(pieces), ckpt_path=tmp_path / "step=2.ckpt")
    weights = resumed.state_dict()
    for name, weight in through.state_dict().items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=0, msg=name)


def test_another_number_of_sequences_cannot_continue() -> None:
    (first, second), _ = stream_of(SPEC, steps=8)
    model = model_of("language-modelling")
    model.scores(first)
    fewer = Batch(packed(second.input.data[:8], [4, 4]), second.target[:8], continues=True)
    with pytest.raises(ValueError, match="a scores batch of 2 sequences cannot continue one of 3"):
        model.scores(fewer)


def test_a_stream_cannot_be_read_backward() -> None:
    (_, second), _ = stream_of(SPECS["multi-label"], steps=8)
    with pytest.raises(ValueError, match="bidirectional=False"):
        model_of("multi-label", bidirectional=True).scores(second)


def test_each_process_takes_up_its_own_state() -> None:
    states: list[Any] = [(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)), (torch.ones(1, 2, 3), torch.ones(1, 2, 3)), None]
    batch = Batch(packed(torch.zeros(2, 1), [1, 1]), torch.zeros(2), continues=True)
    carried = CarriedStates()
    carried.restore("train", states, rank=1)
    state = carried.before("train", batch)
    assert state is not None
    assert state[0].eq(1).all()
    for rank in (2, 3):  # nothing was kept for them
        carried.restore("train", states, rank)
        assert carried.before("train", batch) is None
