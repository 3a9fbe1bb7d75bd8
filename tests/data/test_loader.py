from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.multiprocessing
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from rnnnorm.data import Batch, SequenceDataModule, Spec
from rnnnorm.data.collate import Example


class Numbers(SequenceDataModule):
    """Sequences of 1 to 9 rows; each row holds the number of its sequence, so a batch shows what it is made of."""

    task = "classification"

    def __init__(self, count: int = 37, **common: Any) -> None:
        super().__init__(**common)
        self.count = count

    def load(self) -> dict[str, list[Example]]:
        def some(count: int) -> list[Example]:
            return [(torch.full((1 + i * 7 % 9, 1), float(i)), torch.tensor(i)) for i in range(count)]

        return {"train": some(self.count), "val": some(11), "test": some(7)}

    @property
    def spec(self) -> Spec:
        return Spec(self.task, num_features=1, num_outputs=self.count, max_length=self.max_length)


class Recorder(L.LightningModule):
    """Writes down the batches it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, tuple[int, ...]]] = []
        self.validations: list[int] = []

    def training_step(self, batch: Batch, index: int) -> Tensor:
        self.seen.append((self.current_epoch, tuple(batch.target.tolist())))
        return self.weight * batch.input.data.sum()

    def validation_step(self, batch: Batch, index: int) -> None:
        self.validations.append(self.current_epoch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class SaveAfter(L.Callback):
    """Writes a checkpoint after a number of steps, and stops if told to."""

    def __init__(self, step: int, path: Path, stop: bool = False) -> None:
        self.step, self.path, self.stop = step, path, stop

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = self.stop


def trainer(*callbacks: L.Callback, **keys: Any) -> L.Trainer:
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 3,
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(callbacks=list(callbacks), **(quiet | keys))


def targets(loader: Any) -> list[tuple[int, ...]]:
    return [tuple(batch.target.tolist()) for batch in loader]


BATCHES = 8  # per epoch: 37 sequences, 5 at a time


@pytest.mark.parametrize("step", [1, 3, 7, 8, 9, 13, 16, 23])
def test_lightning_resumes_at_the_next_batch(step: int, tmp_path: Path) -> None:
    uninterrupted = Recorder()
    trainer(SaveAfter(step, tmp_path / "last.ckpt")).fit(uninterrupted, datamodule=Numbers(batch_size=5))
    assert len(uninterrupted.seen) == 3 * BATCHES
    assert len({batches for _, batches in uninterrupted.seen}) > 2 * BATCHES

    resumed = Recorder()
    trainer().fit(resumed, datamodule=Numbers(batch_size=5), ckpt_path=tmp_path / "last.ckpt", weights_only=False)
    assert resumed.seen == uninterrupted.seen[step:]


def test_lightning_resumes_an_interrupted_run_with_workers(tmp_path: Path) -> None:
    uninterrupted = Recorder()
    trainer(max_epochs=2).fit(uninterrupted, datamodule=Numbers(batch_size=5, num_workers=2))

    interrupted = Recorder()
    stop = SaveAfter(11, tmp_path / "last.ckpt", stop=True)
    trainer(stop, max_epochs=2).fit(interrupted, datamodule=Numbers(batch_size=5, num_workers=2))
    resumed = Recorder()
    trainer(max_epochs=2).fit(
        resumed,
        datamodule=Numbers(batch_size=5, num_workers=2),
        ckpt_path=tmp_path / "last.ckpt",
        weights_only=False,
    )
    assert interrupted.seen[:11] + resumed.seen == uninterrupted.seen


@pytest.mark.parametrize("keys", [{"limit_train_batches": 3}, {"val_check_interval": 3}], ids=["limit", "validation"])
def test_lightning_resumes_under(keys: dict[str, Any], tmp_path: Path) -> None:
    for step in (2, 3, 4, 6):
        uninterrupted = Recorder()
        trainer(SaveAfter(step, tmp_path / "last.ckpt"), **keys).fit(uninterrupted, datamodule=Numbers(batch_size=5))
        resumed = Recorder()
        trainer(**keys).fit(
            resumed, datamodule=Numbers(batch_size=5), ckpt_path=tmp_path / "last.ckpt", weights_only=False
        )
        assert resumed.seen == uninterrupted.seen[step:], step


class SaveAtEpochEnd(L.Callback):
    def __init__(self, hook: str, path: Path) -> None:
        self.path = path
        setattr(self, hook, self.save)

    def save(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.current_epoch == 1:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("hook", ["on_validation_end", "on_train_epoch_end"])
def test_lightning_resumes_between_epochs(hook: str, tmp_path: Path) -> None:
    uninterrupted = Recorder()
    trainer(SaveAtEpochEnd(hook, tmp_path / "last.ckpt")).fit(uninterrupted, datamodule=Numbers(batch_size=5))
    resumed = Recorder()
    trainer().fit(resumed, datamodule=Numbers(batch_size=5), ckpt_path=tmp_path / "last.ckpt", weights_only=False)
    assert resumed.seen == uninterrupted.seen[2 * BATCHES :]


@pytest.mark.parametrize("workers", [0, 2])
def test_state_counts_what_was_handed_out_and_not_what_was_fetched(workers: int) -> None:
    loader = Numbers(batch_size=5, num_workers=workers).train_dataloader()
    batches = iter(loader)
    first = [next(batches) for _ in range(3)]
    assert loader.state_dict() == {"epoch": 0, "batches": 3, "total": BATCHES}

    other = Numbers(batch_size=5, num_workers=workers).train_dataloader()
    other.load_state_dict(loader.state_dict())
    assert other.state_dict() == loader.state_dict()
    assert targets(first) + targets(other) == targets(Numbers(batch_size=5).train_dataloader())
    assert other.state_dict()["batches"] == BATCHES
    assert len(targets(other)) == len(other) == BATCHES, "only the first iteration begins in the middle"


def test_state_of_a_later_epoch_is_found_without_lightning() -> None:
    loader = Numbers(batch_size=5).train_dataloader()
    loader.plan.set_epoch(4)
    whole = targets(loader)
    other = Numbers(batch_size=5).train_dataloader()
    other.load_state_dict({"epoch": 4, "batches": 6, "total": BATCHES})
    assert targets(other) == whole[6:]


def test_another_epoch_than_that_of_the_state_begins_at_its_beginning() -> None:
    loader = Numbers(batch_size=5).train_dataloader()
    loader.load_state_dict({"epoch": 0, "batches": 6, "total": BATCHES})
    loader.plan.set_epoch(1)
    assert len(targets(loader)) == BATCHES


def test_a_state_of_other_data_is_an_error() -> None:
    loader = Numbers(batch_size=4).train_dataloader()
    with pytest.raises(ValueError, match=r"cannot go on after batch 3 of 8: this loader has 10"):
        loader.load_state_dict({"epoch": 0, "batches": 3, "total": BATCHES})


def test_workers_change_nothing() -> None:
    assert targets(Numbers(num_workers=2).train_dataloader()) == targets(Numbers().train_dataloader())


def test_iterating_leaves_the_global_random_stream_alone() -> None:
    before = torch.get_rng_state()
    targets(Numbers().train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_overfit_batches_shows_the_same_batches_in_every_epoch() -> None:
    recorder = Recorder()
    with pytest.warns(UserWarning, match="turning off the train"):
        trainer(overfit_batches=2).fit(recorder, datamodule=Numbers(batch_size=5))
    seen = [batch for _, batch in recorder.seen]
    assert seen[:2] == seen[2:4] == seen[4:]
    assert len(seen[0]) == 5


def _train(rank: int, port: int, out: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"NODE_RANK": "0"}
    torch.set_num_threads(1)
    runs = {}
    for use_distributed_sampler in (False, True):
        recorder = Recorder()
        trainer(
            strategy=DDPStrategy(process_group_backend="gloo"),
            devices=2,
            max_epochs=2,
            use_distributed_sampler=use_distributed_sampler,
        ).fit(recorder, datamodule=Numbers(count=101, batch_size=5))
        runs[use_distributed_sampler] = (recorder.seen, len(recorder.validations))
    torch.save(runs, out / f"{rank}.pt")


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes_share_each_epoch(port: int, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_train, (port, tmp_path), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert ranks[0][False] == ranks[0][True], "Lightning wraps a sampler of its own around ours"
    assert ranks[1][False] == ranks[1][True]
    (one, validations), (other, _) = (runs[True] for runs in ranks)
    assert [(epoch, len(batch)) for epoch, batch in one] == [(epoch, len(batch)) for epoch, batch in other]
    assert validations == 2 * 2  # 11 sequences in batches of 2 · 5, twice
    for epoch in (0, 1):
        shown = [index for run in (one, other) for at, batch in run if at == epoch for index in batch]
        assert len(shown) == 102, "one of the 101 comes twice, so that both processes have as many"
        assert set(shown) == set(range(101))
    assert {batch for at, batch in one if at == 0} != {batch for at, batch in one if at == 1}
