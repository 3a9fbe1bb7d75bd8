"""Losses and metrics against their definitions and against torchmetrics."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lightning import Callback, LightningModule, Trainer
from tasks.tiny import SPECS, batch_of, batches_of, model_of, trainer_of
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torchmetrics.functional.classification import multiclass_f1_score
from torchmetrics.text import Perplexity as ReferencePerplexity

from rnnnorm.tasks.metrics import BitsPerToken, MeanNLL, Perplexity


@pytest.mark.parametrize("cls", [MeanNLL, Perplexity, BitsPerToken])
def test_means_of_unequal_batches_are_exact(cls: type[MeanNLL]) -> None:
    logits, target = torch.randn(30, 7), torch.randint(7, (30,))
    losses = F.cross_entropy(logits, target, reduction="none")
    metric, reference = cls(), ReferencePerplexity()
    for part, rows, targets in zip(losses.split([1, 9, 20]), logits.split([1, 9, 20]), target.split([1, 9, 20])):  # noqa: B905
        metric.update(part)
        reference.update(rows[None], targets[None])
    nll = reference.compute().log()
    expected = {MeanNLL: nll, Perplexity: nll.exp(), BitsPerToken: nll / math.log(2)}[cls]
    torch.testing.assert_close(metric.compute(), expected)


def test_a_likelihood_that_is_not_a_number_stays_so() -> None:
    metric = MeanNLL()
    metric.update(torch.tensor([1.0, math.nan]))
    assert metric.compute().isnan()


def test_characters_are_measured_in_bits() -> None:
    batches = batches_of("language-modelling")
    word, char = model_of("language-modelling"), model_of("language-modelling", unit="char")
    assert (word.metric, char.metric, type(char).metric) == ("perplexity", "bpc", "perplexity")
    perplexity = trainer_of().validate(word, batches, verbose=False)[0]["val/perplexity"]
    bpc = trainer_of().validate(char, batches, verbose=False)[0]["val/bpc"]
    assert bpc == pytest.approx(math.log2(perplexity), rel=1e-5)


def test_music_sums_over_notes_and_averages_over_steps() -> None:
    model, batch = model_of("multi-label").eval(), batch_of(SPECS["multi-label"], [3, 1])
    p = model(batch.input)[0].sigmoid()
    nll = -(batch.target * p.log() + (1 - batch.target) * (1 - p).log()).sum(1)
    torch.testing.assert_close(model.scores(batch).loss, nll)


def test_regression_averages_over_outputs() -> None:
    model, batch = model_of("regression").eval(), batch_of(SPECS["regression"], [3, 1])
    error = (model(batch.input)[0] - batch.target) ** 2
    torch.testing.assert_close(model.scores(batch).score, error.mean(1))


def test_classification_also_logs_macro_f1() -> None:
    model, batches = model_of("classification").eval(), batches_of("classification")
    logged = trainer_of().validate(model, batches, verbose=False)[0]
    logits = torch.cat([model(batch.input)[0] for batch in batches])
    target = torch.cat([batch.target for batch in batches])
    expected = multiclass_f1_score(logits, target, 3, average="macro")
    assert logged["val/f1"] == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("name", "cls"), [("adam", Adam), ("adamw", AdamW), ("sgd", SGD), ("rmsprop", RMSprop)], ids=lambda v: str(v)
)
def test_optimizers_by_name(name: str, cls: type[Optimizer]) -> None:
    momentum = 0.8 if name in ("sgd", "rmsprop") else 0.0
    keys = {"learning_rate": 0.2, "weight_decay": 0.3, "momentum": momentum}
    optimizer = model_of("tagging", optimizer=name, **keys).configure_optimizers()
    assert type(optimizer) is cls
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group.get("momentum", 0.0)) == (0.2, 0.3, momentum)


def test_learning_rate_decays_from_epoch_to_epoch() -> None:
    model = model_of("tagging", learning_rate=0.1, lr_decay=0.5)
    trainer = trainer_of(max_epochs=3)
    trainer.fit(model, batches_of("tagging"))
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**3)


def test_learning_rate_is_constant_for_some_epochs() -> None:
    rates = []

    class Watch(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    model = model_of("tagging", learning_rate=0.1, lr_decay=0.5, lr_decay_after=2)
    trainer_of(max_epochs=4, callbacks=[Watch()]).fit(model, batches_of("tagging"))
    assert rates == pytest.approx([0.1, 0.1, 0.05, 0.025])


def test_learning_rate_decays_where_the_validation_loss_is_no_new_minimum() -> None:
    seen = []

    class Watch(Callback):
        def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            seen.append((float(trainer.callback_metrics["val/loss"]), trainer.optimizers[0].param_groups[0]["lr"]))

    model = model_of("tagging", learning_rate=0.5, lr_decay=0.5, lr_decay_after="plateau")
    data = batches_of("tagging")
    trainer_of(max_epochs=12, callbacks=[Watch()]).fit(model, data, data)
    rate, lowest = 0.5, math.inf
    for loss, used in seen:
        assert used == pytest.approx(rate)
        rate, lowest = (rate if loss < lowest else rate / 2), min(loss, lowest)
    assert rate < 0.5 < rate * 2**11  # there were epochs of both kinds


def test_smoothing_is_that_of_rmsprop() -> None:
    optimizers = [model_of("tagging", optimizer="rmsprop", smoothing=s).configure_optimizers() for s in (None, 0.5)]
    assert [o.param_groups[0]["alpha"] for o in optimizers] == [0.99, 0.5]  # type: ignore[union-attr]
