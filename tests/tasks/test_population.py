"""Evaluation by population statistics: what is logged, from which sequences, and that nothing else changes."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from tasks.tiny import SPECS, batches_of

import rnnnorm
from rnnnorm.data import LanguageModel, TemporalOrder
from rnnnorm.norms import step_statistics
from rnnnorm.tasks import Classification, LanguageModelling, PopulationStatistics


def data(**keys: Any) -> TemporalOrder:
    return TemporalOrder(num_train=96, num_val=24, num_test=24, max_length=24, batch_size=16, **keys)


def task(norm: str = "bn-timestep", **keys: Any) -> Classification:
    L.seed_everything(3, verbose=False)
    return Classification(data().spec, norm, hidden_size=8, **keys)


def trainer(*callbacks: L.Callback, **keys: Any) -> L.Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"accelerator": "cpu", "enable_checkpointing": False, "max_epochs": 2, **quiet, **keys}
    return L.Trainer(callbacks=list(callbacks), **options)


def fit(model: Any, module: Any = None, *callbacks: L.Callback, **keys: Any) -> dict[str, float]:
    ran = trainer(*callbacks, **keys)
    L.seed_everything(4, verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ran.fit(model, datamodule=data() if module is None else module)
    return {name: float(value) for name, value in ran.callback_metrics.items()}


def test_validation_is_by_the_population_and_running_averages_stand_beside_it() -> None:
    model = task()
    logged = fit(model)
    assert {"val/loss", "val/accuracy", "val/f1", "val_running/loss", "val_running/accuracy", "val/loss_batch"} <= {
        *logged
    }
    assert "val_running/f1" not in logged
    model.eval()
    for source, tag in (("population", "val/loss"), ("running", "val_running/loss"), ("batch", "val/loss_batch")):
        if source == "population":
            rnnnorm.recalibrate(model, data().training_sample(1000), forward=model.encode)
        with rnnnorm.statistics(model, source), torch.no_grad():
            losses = torch.cat([model.scores(batch).loss for batch in data().val_dataloader()])
        assert logged[tag] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert len({logged["val/loss"], logged["val_running/loss"], logged["val/loss_batch"]}) == 3


@pytest.mark.parametrize("norm", ["none", "ln", "bn-frozen", "cmbn"])
def test_norms_without_a_population_are_evaluated_as_ever(norm: str) -> None:
    model = task(norm)
    logged = fit(model)
    assert not any(name.startswith("val_running") for name in logged)
    assert all(s.population_mean is None for s in step_statistics(model))


@pytest.mark.parametrize("norm", ["bn-timestep", "bn-vertical"])
def test_training_is_the_same_to_the_last_bit(norm: str) -> None:
    noisy: dict[str, Any] = {"initial_state_noise": 0.1, "dropout": 0.2}
    with_it, without = task(norm, **noisy), task(norm, **noisy)
    without.configure_callbacks = lambda: []  # type: ignore[method-assign]
    fit(with_it)
    fit(without)
    for (name, a), b in zip(with_it.named_parameters(), without.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_what_was_estimated_is_dropped_by_the_next_step_and_kept_in_checkpoints_of_a_validation(tmp_path: Path) -> None:
    class Look(L.Callback):
        seen: list[bool]

        def __init__(self) -> None:
            self.seen = []

        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            self.seen.append(any(s.population_mean is not None for s in step_statistics(pl_module)))

    look, best = Look(), ModelCheckpoint(tmp_path, "best", monitor="val/loss")
    model = task()
    fit(model, None, look, best, enable_checkpointing=True)
    assert look.seen
    assert not any(look.seen)
    saved = torch.load(tmp_path / "best.ckpt", weights_only=False)["state_dict"]
    assert any(name.endswith("population_mean") for name in saved)
    assert all(s.source is None for s in step_statistics(model))


def test_test_is_by_the_population_unless_somebody_has_chosen() -> None:
    model = task()
    fit(model)
    ran = trainer()
    (own,) = ran.test(model, datamodule=data(), verbose=False)
    with rnnnorm.statistics(model, "running"):
        (chosen,) = ran.test(model, datamodule=data(), verbose=False)
    model.eval()
    for source, logged in (("population", own), ("running", chosen)):
        with rnnnorm.statistics(model, source), torch.no_grad():
            losses = torch.cat([model.scores(batch).loss for batch in data().test_dataloader()])
        assert logged["test/loss"] == pytest.approx(float(losses.mean()), rel=1e-5)


def test_a_callback_of_the_users_own_takes_the_place_of_the_default() -> None:
    model, few = task(), PopulationStatistics(rows=20)
    ran = trainer(few, max_epochs=1)
    ran.fit(model, datamodule=data())
    assert [c for c in ran.callbacks if isinstance(c, PopulationStatistics)] == [few]
    counted = {int(s.population_rows.max()) for s in step_statistics(model)}
    assert counted == {int(data().training_sample(20)[0].input.batch_sizes[0])}
    with pytest.raises(ValueError, match=r"rows must be an integer of at least 2.*got 1"):
        PopulationStatistics(rows=1)


class TestWithoutADataModule:
    def loaders(self) -> dict[str, Any]:
        return {"train_dataloaders": batches_of("classification"), "val_dataloaders": batches_of("classification", 5)}

    def test_the_last_training_batches_are_taken(self) -> None:
        model = Classification(SPECS["classification"], "bn-timestep", hidden_size=8)
        ran = trainer(PopulationStatistics(rows=9), max_epochs=3)
        ran.fit(model, **self.loaders())
        assert int(step_statistics(model)[0].population_rows[0]) == 9, "of 4, 3 and 6 sequences the last 9"

    def test_a_test_by_a_fresh_trainer_takes_the_statistics_that_there_are(self) -> None:
        model = Classification(SPECS["classification"], "bn-timestep", hidden_size=8)
        trainer().fit(model, **self.loaders())
        before = [s.population_mean.clone() for s in step_statistics(model)]
        (logged,) = trainer().test(model, batches_of("classification", 5), verbose=False)
        assert all(torch.equal(a, s.population_mean) for a, s in zip(before, step_statistics(model), strict=True))
        fresh = Classification(SPECS["classification"], "bn-timestep", hidden_size=8)
        with pytest.warns(UserWarning, match="running averages"):
            trainer().test(fresh, batches_of("classification", 5), verbose=False)
        assert logged["test/loss"] > 0


class TestOtherDataModules:
    class Testing(L.LightningDataModule):
        def test_dataloader(self) -> Any:
            return data().test_dataloader()

    class Staged(Testing):
        def setup(self, stage: str) -> None:
            if stage == "fit":
                self.train, self.val = data().train_dataloader(), data().val_dataloader()

        def train_dataloader(self) -> Any:
            return self.train

        def val_dataloader(self) -> Any:
            return self.val

    @pytest.mark.parametrize("module", [Testing, Staged])
    def test_without_training_data_at_hand_it_says_so(self, module: type[L.LightningDataModule]) -> None:
        model = task()
        with pytest.warns(UserWarning, match="running averages"):
            trainer().test(model, datamodule=module(), verbose=False)

    def test_training_batches_of_theirs_are_taken(self) -> None:
        model = task()
        logged = fit(model, self.Staged())
        assert logged["val/loss"] != logged["val_running/loss"]
        assert int(step_statistics(model)[0].population_rows[0]) == 96

    def test_another_data_module_has_another_sample(self) -> None:
        model, ran = task(), trainer(max_epochs=1)
        ran.fit(model, datamodule=data())
        other = data(seed=5, length_distribution="fixed")
        (used,) = ran.test(model, datamodule=other, verbose=False)
        (fresh,) = trainer().test(model, datamodule=other, verbose=False)
        assert used == fresh


@pytest.mark.parametrize("norm", ["bn-timestep", "bn-vertical"])
def test_averaged_weights_are_evaluated_by_statistics_of_their_own(norm: str) -> None:
    averaging = pytest.importorskip("lightning.pytorch.callbacks")
    if not hasattr(averaging, "EMAWeightAveraging"):
        pytest.skip("this Lightning has no EMAWeightAveraging")
    model, plain = task(norm, num_layers=3), task(norm, num_layers=3)
    weights: dict[str, list[float]] = {"estimated": [], "evaluated": []}
    encode, step = model.encode, model.validation_step

    def summed(key: str) -> None:
        weights[key].append(float(model.recurrent.weight_hh_l0.detach().sum()))

    model.encode = lambda batch: (summed("estimated"), encode(batch))[1]  # type: ignore[assignment]
    model.validation_step = lambda *a: (summed("evaluated"), step(*a))[1]  # type: ignore[method-assign]
    fit(model, None, averaging.EMAWeightAveraging(decay=0.9, use_buffers=False), max_epochs=3, num_sanity_val_steps=0)
    fit(plain, max_epochs=3)
    assert weights["estimated"]
    assert set(weights["estimated"]) == set(weights["evaluated"])
    for ours, theirs in zip(model.buffers(), plain.buffers(), strict=True):
        if ours.is_floating_point():
            assert torch.equal(ours, theirs), "averaging weights leaves the running averages alone"


class TestSample:
    def test_it_is_the_same_each_time_and_has_the_longest(self) -> None:
        module = data()
        (one,), (again,) = module.training_sample(40), module.training_sample(40)
        assert torch.equal(one.input.data, again.input.data)
        sizes, lengths = one.input.batch_sizes, torch.tensor(module.lengths("train"))
        assert 40 <= int(sizes[0]) <= 72
        assert len(sizes) == int(lengths.max())
        for t, active in enumerate(sizes.tolist()):
            assert active >= min(32, int((lengths > t).sum())), f"step {t}"

    def test_all_of_it(self) -> None:
        module = data()
        for rows in (None, 96, 5000):
            (batch,) = module.training_sample(rows)
            assert int(batch.input.batch_sizes[0]) == 96

    def test_a_stream_gives_its_first_batches_in_order(self, tmp_path: Path) -> None:
        for split in ("train", "valid", "test"):
            (tmp_path / f"{split}.txt").write_text("a b c d e f g h i j\n" * 20)
        keys: dict[str, Any] = {"folder": str(tmp_path), "mode": "stream", "bptt": 4, "batch_size": 3}
        stream = LanguageModel("folder", **keys)
        taken = stream.training_sample(10)
        assert [batch.continues for batch in taken] == [False, True, True, True]
        model = LanguageModelling(stream.spec, "bn-timestep", hidden_size=6)
        logged = fit(model, stream, max_epochs=1)
        assert logged["val/loss"] > 0
        sentences = LanguageModel("folder", **{**keys, "mode": "sentences"})
        assert len(sentences.training_sample(10)) == 1

    def test_encoding_leaves_the_training_stream_where_it_was(self) -> None:
        model = LanguageModelling(SPECS["language-modelling"], "bn-timestep", hidden_size=6)
        batch = batches_of("language-modelling")[0]
        model.training_step(batch) if model._trainer else model.scores(batch)
        before = copy.deepcopy(model._carried._states["scores"])
        model.encode(batches_of("language-modelling", 4)[0])
        assert all(torch.equal(a, b) for a, b in zip(before, model._carried._states["scores"], strict=True))
