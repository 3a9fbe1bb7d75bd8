"""Weight normalization that starts from data, and what else must hold in a group of processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import ModelCheckpoint
from tasks.tiny import SPECS, batches_of, model_of, stream_of, trainer_of
from torch.nn.utils.rnn import PackedSequence

from rnnnorm import LSTM


@pytest.fixture(params=["auto", "ddp"])
def strategy(request: pytest.FixtureRequest) -> Iterator[str]:
    """One process, as it is and as a group of one."""
    yield request.param
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.parametrize("norm", ["wn:init=data", "wn"])
def test_weight_norm_starts_from_the_first_training_batch_if_asked(norm: str, strategy: str) -> None:
    batches = batches_of("tagging")
    model = model_of("tagging", norm=norm, optimizer="sgd", learning_rate=0.0, dropout=0.5)
    trainer = trainer_of(num_sanity_val_steps=1, max_epochs=2, strategy=strategy, devices=1)
    trainer.fit(model, batches, batches)
    rows = model.embedding(batches[0].input.data)
    products = (rows @ model.recurrent.weight_ih_l0.T).detach()
    standard = torch.allclose(products.std(0, unbiased=False), torch.ones(32), atol=1e-3)
    assert standard == (norm == "wn:init=data")
    assert not model.recurrent.needs_data


def test_data_dependent_start_is_not_repeated_on_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches, calls = batches_of("tagging"), []
    initialize = LSTM.initialize_from_data

    def count(self: LSTM, input: PackedSequence) -> None:
        calls.append(input)
        initialize(self, input)

    monkeypatch.setattr(LSTM, "initialize_from_data", count)
    model = model_of("tagging", norm="wn:init=data")
    trainer_of(callbacks=[ModelCheckpoint(tmp_path, filename="one")], enable_checkpointing=True).fit(model, batches)
    assert len(calls) == 1
    resumed = model_of("tagging", norm="wn:init=data")
    trainer_of(max_epochs=2).fit(resumed, batches, ckpt_path=tmp_path / "one.ckpt")
    assert len(calls) == 1
    assert not torch.equal(resumed.head.weight, model.head.weight)  # it did go on


def test_a_group_of_processes_keeps_the_carried_state_of_each(strategy: str, tmp_path: Path) -> None:
    model, keep = model_of("language-modelling"), ModelCheckpoint(tmp_path, filename="end")
    pieces, _ = stream_of(SPECS["language-modelling"], steps=8)
    trainer_of(callbacks=[keep], enable_checkpointing=True, strategy=strategy, devices=1).fit(model, pieces)
    ((h, c),) = torch.load(tmp_path / "end.ckpt")["carried_state"]
    assert h.shape == c.shape == (1, 3, 8)
    assert h.abs().sum() > 0
