"""A loss that is not finite ends the run, and leaves step and weights behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from tasks.tiny import Batches, batches_of, model_of, trainer_of

from rnnnorm.tasks import StopOnDivergence


def spoiled(value: float) -> Batches:
    """Five batches, of which the fourth has a target that no finite loss can have."""
    batches = Batches([*batches_of("regression"), *batches_of("regression", seed=10)])[:5]
    batches[3] = batches[3]._replace(target=torch.full_like(batches[3].target, value))
    return batches


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=["nan", "inf"])
def test_training_stops_and_keeps_the_weights(value: float, optimizer: str) -> None:
    keys = {"momentum": 0.9} if optimizer == "sgd" else {}
    stop, model = StopOnDivergence(), model_of("regression", optimizer=optimizer, weight_decay=0.1, **keys)
    trainer = trainer_of(callbacks=[stop], max_epochs=7, gradient_clip_val=1.0)
    trainer.fit(model, spoiled(value))
    reference = model_of("regression", optimizer=optimizer, weight_decay=0.1, **keys)
    trainer_of(gradient_clip_val=1.0).fit(reference, spoiled(value)[:3])
    assert (stop.diverged_at, stop.stage, stop.diverged) == (3, "train", True)
    assert trainer.current_epoch <= 1
    weights = model.state_dict()
    assert all(torch.equal(weights[n], w) for n, w in reference.state_dict().items())


def test_weights_stay_where_the_epoch_must_go_on() -> None:
    stop, model = StopOnDivergence(), model_of("regression")
    trainer_of(callbacks=[stop], max_epochs=3, min_epochs=3).fit(model, spoiled(float("nan")))
    assert stop.diverged_at == 3
    assert all(p.isfinite().all() for p in model.parameters())


def test_validation_counts_too() -> None:
    stop, model = StopOnDivergence(), model_of("regression")
    trainer = trainer_of(callbacks=[stop], max_epochs=7)
    trainer.fit(model, batches_of("regression"), spoiled(float("nan")))
    assert (stop.diverged_at, stop.stage) == (3, "val")
    assert trainer.global_step == 3


def test_the_sanity_check_before_training_does_not_count() -> None:
    stop, model = StopOnDivergence(), model_of("regression")
    bad = spoiled(float("nan"))[3:]
    trainer = trainer_of(callbacks=[stop], num_sanity_val_steps=1, max_steps=1, val_check_interval=3)
    trainer.fit(model, batches_of("regression"), bad)
    assert trainer.global_step == 1
    assert stop.diverged_at is None


def test_a_run_without_trouble_is_left_alone() -> None:
    plain, watched, stop = model_of("regression"), model_of("regression"), StopOnDivergence()
    trainer_of(max_epochs=2).fit(plain, batches_of("regression"))
    trainer_of(max_epochs=2, callbacks=[stop]).fit(watched, batches_of("regression"), batches_of("regression"))
    assert not stop.diverged
    weights = watched.state_dict()
    assert all(torch.equal(weights[n], w) for n, w in plain.state_dict().items())


def test_a_diverged_run_that_is_resumed_stops_again(tmp_path: Path) -> None:
    model = model_of("regression")
    callbacks = [StopOnDivergence(), ModelCheckpoint(tmp_path, filename="last", every_n_train_steps=1)]
    trainer_of(callbacks=callbacks, enable_checkpointing=True).fit(model, spoiled(float("nan")))
    stop, resumed = StopOnDivergence(), model_of("regression")
    trainer = trainer_of(callbacks=[stop], max_epochs=9)
    trainer.fit(resumed, batches_of("regression"), ckpt_path=tmp_path / "last.ckpt")
    assert stop.diverged_at == 3
    assert trainer.global_step == 4  # not one more
    weights = resumed.state_dict()
    assert all(torch.equal(weights[n], w) for n, w in model.state_dict().items())
