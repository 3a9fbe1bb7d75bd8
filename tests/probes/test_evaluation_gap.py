"""The gap between training and evaluation, and that looking at it changes nothing."""

from __future__ import annotations

import copy
import math
from typing import Any

import lightning as L
import pytest
import torch
from tasks.tiny import batches_of, model_of, stream_of, trainer_of
from torch import nn
from torchmetrics import MeanMetric

from rnnnorm.norms import recalibrate, statistics
from rnnnorm.probes import EvaluationGap, Measurement
from rnnnorm.probes.evaluation_gap import by_length, by_step, loss_of, score
from rnnnorm.probes.undisturbed import undisturbed

pytestmark = pytest.mark.filterwarnings("ignore")


class Kept(EvaluationGap):
    """Keeps what it would write."""

    def _write(self, trainer: L.Trainer, found: Measurement) -> None:
        self.first = getattr(self, "first", found)


class Keep(L.Callback):
    """A copy of the model as it is when validation ends."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.state = copy.deepcopy(pl_module.state_dict())


@pytest.mark.parametrize("task", ["tagging", "classification"])
def test_the_gap_is_that_of_three_evaluations_by_hand(task: str) -> None:
    probe, keep, keys = Kept(every=1, batches=2), Keep(), {"norm": "bn-shared", "dropout": 0.4}
    train, validation = batches_of(task), batches_of(task, 7)
    trainer = trainer_of(callbacks=[keep, probe])
    trainer.fit(model_of(task, **keys), train, validation)
    model = model_of(task, **keys).eval()
    model.load_state_dict(keep.state)
    recalibrate(model, train[-2:], forward=model.scores)
    losses, steps = {}, torch.cat([model.scores(batch).step for batch in validation[:2]])
    for source in ("running", "population", "batch"):
        with statistics(model, source):
            losses[source] = torch.cat([model.scores(batch).loss for batch in validation[:2]]).double()
    for source in ("running", "population"):
        gap = losses[source] - losses["batch"]
        assert float(gap.abs().max()) > 1e-4
        assert probe.first.scalars[f"gap/{source}"] == pytest.approx(float(gap.mean()), abs=1e-5)
        lengths = torch.cat([model.scores(batch).length for batch in validation[:2]])
        by = probe.tables[f"gap_by_length/{source}"].array()[0]
        assert by.tolist() == pytest.approx(by_length(gap, lengths), abs=1e-5)
        row = torch.from_numpy(probe.tables[f"gap/{source}"].array()[0]).double()
        for t in range(len(row)):
            expected = float(gap[steps == t].mean()) if bool((steps == t).any()) else math.nan
            assert float(row[t]) == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_everything_is_as_it_was() -> None:
    model = model_of("tagging", norm="bn-timestep")
    recalibrate(model, batches_of("tagging"), forward=model.scores)
    model.train()
    model.head.eval()
    model.extra = MeanMetric()
    model.extra.update(3.0)
    before, stream = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    modes = [module.training for module in model.modules()]
    with undisturbed(model):
        model.eval()
        recalibrate(model, batches_of("tagging", 5), forward=model.scores)
        model.recurrent.norms("_l0").hidden.stats.running_mean.add_(1)
        model.extra.update(100.0)
        model.log("anything", torch.rand(1))
        assert not torch.is_grad_enabled()
    after = model.state_dict()
    assert list(after) == list(before)
    for name, value in after.items():
        assert torch.equal(value, before[name]), name
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), stream)
    assert float(model.extra.compute()) == 3.0


def test_an_error_inside_changes_nothing_either() -> None:
    model = nn.Sequential(nn.Linear(2, 2)).eval()

    def fail() -> None:
        model.train()
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"), undisturbed(model):  # type: ignore[arg-type]
        fail()
    assert not model.training
    assert "log" not in vars(model)


def test_a_stream_is_read_from_its_beginning_and_goes_on_where_it_was() -> None:
    model = model_of("language-modelling", norm="bn-shared").eval()
    pieces, whole = stream_of(model.spec, 9)
    carried = model._carried
    first, again = score(model, pieces), score(model, pieces)
    together = score(model, [whole])
    assert first is not None
    assert again is not None
    assert together is not None
    assert torch.equal(first.loss, again.loss)
    torch.testing.assert_close(first.loss.mean(), together.loss.mean())
    assert model._carried is carried


def test_a_model_without_batch_statistics_has_no_gap() -> None:
    probe = EvaluationGap(every=1)
    trainer_of(callbacks=[probe]).fit(model_of("tagging", norm="ln"), batches_of("tagging"), batches_of("tagging", 7))
    assert float(torch.from_numpy(probe.table).nan_to_num().abs().max()) == 0


def test_it_waits_for_as_many_training_steps_as_it_was_told() -> None:
    probe = EvaluationGap(every=6)
    trainer = trainer_of(callbacks=[probe], max_epochs=5)
    trainer.fit(model_of("tagging", norm="bn-shared"), batches_of("tagging"), batches_of("tagging", 7))
    assert probe.steps == [3, 9, 15]


def test_neither_the_sanity_check_nor_a_validation_by_itself_is_measured() -> None:
    probe, model = EvaluationGap(every=1), model_of("tagging", norm="bn-shared")
    trainer = trainer_of(callbacks=[probe], num_sanity_val_steps=2)
    trainer.fit(model, batches_of("tagging"), batches_of("tagging", 7))
    trainer.validate(model, batches_of("tagging", 7), verbose=False)
    assert probe.steps == [3]


def test_means_by_step_and_by_length() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    torch.testing.assert_close(
        by_step(values, torch.tensor([0, 2, 2, 3])),
        torch.tensor([1.0, math.nan, 2.5, 6.0], dtype=torch.float64),
        equal_nan=True,
    )
    assert by_length(values, torch.tensor([9, 1, 5, 7])) == [2.0, 3.0, 6.0, 1.0]
    assert by_length(values, torch.tensor([4, 4, 4, 4])) == [3.0]
    assert by_length(values, torch.tensor([4, 4, 4, 8])) == [2.0, 6.0]


@pytest.mark.parametrize(
    ("output", "expected"),
    [(torch.tensor(2.0), 2.0), ({"loss": torch.tensor(3.0)}, 3.0), (None, None), ({}, None), (torch.ones(2), None)],
    ids=["tensor", "dictionary", "nothing", "without-loss", "many-numbers"],
)
def test_a_loss_is_what_lightning_takes_for_one(output: Any, expected: float | None) -> None:
    found = loss_of(output)
    assert (None if found is None else float(found)) == expected


def test_batches_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="batches must be an integer of at least 1, got 0"):
        EvaluationGap(batches=0)
