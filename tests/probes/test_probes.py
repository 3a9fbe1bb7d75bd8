"""Probes inside a Trainer: they measure when they should, write where they should, and disturb nothing."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from tasks.tiny import Batches, batches_of, model_of, trainer_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import rnnnorm
from rnnnorm.probes import ALL, ActiveRows, EvaluationGap, GradientFlow, Probe, Saturation, all_probes
from rnnnorm.probes.base import is_drawn
from rnnnorm.tasks.divergence import StopOnDivergence

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 3  # training batches of one epoch


class Memory(Logger):
    """A logger that TensorBoard has nothing to do with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, dict[int, float]] = {}

    name = version = "memory"

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.seen.setdefault(name, {})[int(step or 0)] = value


class Foreign(L.LightningModule):
    """Somebody's own model, around a GRU of ours, with padded batches."""

    def __init__(self, norm: str = "bn-timestep", returns: bool = True) -> None:
        super().__init__()
        self.encoder = rnnnorm.GRU(3, 5, norm=norm, batch_first=True)
        self.returns = returns

    def loss(self, batch: Tensor) -> Tensor:
        return self.encoder(batch)[0].square().mean()

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Tensor, batch_idx: int) -> dict[str, Tensor] | None:
        loss = self.loss(batch)
        self.log("val_loss", loss)
        return {"loss": loss} if self.returns else None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    probes: list[Probe], task: str = "tagging", epochs: int = 2, model: L.LightningModule | None = None, **keys: Any
) -> tuple[L.LightningModule, L.Trainer]:
    torch.manual_seed(3)
    trainer_keys = {k: keys.pop(k) for k in list(keys) if k in ("logger", "fast_dev_run", "callbacks")}
    model = model or model_of(task, num_layers=2, **keys)
    callbacks = [*trainer_keys.pop("callbacks", []), *probes]
    trainer = trainer_of(max_epochs=epochs, callbacks=callbacks, **trainer_keys)
    trainer.fit(model, batches_of(task), batches_of(task, 7))
    return model, trainer


def foreign_batches() -> Batches:
    return Batches(torch.randn(4, 6, 3) for _ in range(STEPS))  # type: ignore[misc]


def test_every_probe_measures_and_tells_every_logger(tmp_path: Path) -> None:
    memory = Memory()
    logger = TensorBoardLogger(tmp_path, name="", version="")
    probes = all_probes(every=1)
    fit(probes, norm="bn-timestep", logger=[logger, memory])
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    tags = events.Tags()
    for probe in probes:
        own = {tag: points for tag, points in memory.seen.items() if tag.startswith(f"probe/{probe.name}/")}
        assert own, probe.name
        for tag, points in own.items():
            assert points == pytest.approx({p.step: p.value for p in events.Scalars(tag)})
        for heat_map in probe.heat_maps:
            start = f"probe/{probe.name}/{heat_map.series}"
            shown = [tag for tag in tags["images"] if tag.startswith(start)]
            assert shown == [f"{start}/{layer}".rstrip("/") for layer in heat_map.layers(probe.tables)], heat_map.series
    assert "probe/saturation/gain/l0/hidden" in tags["histograms"]
    drawn = [picture.step for picture in events.Images("probe/gradient_flow/gradient/l0")]
    assert drawn == [1, 2, 3, 5]  # after 2, 3, 4 and 6 measurements
    shown = sum(tag.startswith("probe/") for kind in ("scalars", "images", "histograms") for tag in tags[kind])
    assert shown < 40  # of two layers with three normalizers each


def test_tables_are_measurements_by_timesteps() -> None:
    probe = GradientFlow(every=2)
    fit([probe])
    assert probe.steps == [0, 2, 4]
    assert probe.table.shape == (3, 9)
    assert set(probe.tables) == {
        f"{series}/l{layer}/{state}" for series in ("gradient", "amplification") for layer in (0, 1) for state in "hc"
    }
    lengths = [9, 3, 7]  # of the batches 0, 2 and 1
    assert [int(np.isfinite(row).sum()) for row in probe.table] == lengths
    assert bool((probe.table[np.isfinite(probe.table)] > 0).all())


def test_gradient_flow_shows_the_gradients_of_the_training_step() -> None:
    probe, task = GradientFlow(), model_of("tagging")
    before, batch = copy.deepcopy(task), batches_of("tagging")[0]
    for keys in ({}, {"accumulate_grad_batches": 2}):
        trainer_of(callbacks=[probe], max_steps=1, **keys).fit(copy.deepcopy(before), Batches([batch, batch]))
        with rnnnorm.probes.record(before) as recording:
            before.losses(before(batch.input)[0], batch.target).mean().backward()
        expected = recording.layers["l0"].gradient_norms()["c"]
        np.testing.assert_allclose(probe.tables["gradient/l0/c"].array()[0], expected, rtol=1e-5)


def test_a_resumed_run_has_the_tables_of_one_that_was_never_interrupted(tmp_path: Path) -> None:
    whole, first, resumed = (all_probes(every=2) for _ in range(3))
    fit(whole, epochs=4, norm="bn-timestep")
    _, trainer = fit(first, epochs=1, norm="bn-timestep")
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    model = model_of("tagging", num_layers=2, norm="bn-timestep")
    trainer = trainer_of(max_epochs=4, callbacks=resumed)
    trainer.fit(model, batches_of("tagging"), batches_of("tagging", 7), ckpt_path=tmp_path / "last.ckpt")
    for a, b in zip(whole, resumed, strict=True):
        assert a.steps == b.steps, a.name
        assert list(a.tables) == list(b.tables)
        for name, table in a.tables.items():
            np.testing.assert_allclose(b.tables[name].array(), table.array(), rtol=1e-3, atol=1e-5, err_msg=name)


def test_a_second_training_from_scratch_begins_anew() -> None:
    probe = GradientFlow(every=1)
    fit([probe], epochs=1)
    fit([probe], epochs=1)
    assert probe.steps == [0, 1, 2]


@pytest.mark.parametrize("keys", [{"logger": False}, {"fast_dev_run": True}], ids=["no-logger", "fast-dev-run"])
def test_nobody_needs_to_listen(keys: dict[str, Any]) -> None:
    probes = all_probes(every=1)
    fit(probes, norm="bn-timestep", **keys)
    assert all(probe.table.size for probe in probes)


def test_a_run_that_diverges_ends_as_it_does_without_probes(tmp_path: Path) -> None:
    stop, model = StopOnDivergence(), model_of("tagging", norm="bn-timestep")
    with torch.no_grad():
        model.recurrent.weight_hh_l0[0, 0] = torch.nan
    probes = all_probes(every=1)
    memory = Memory()
    fit(probes, model=model, callbacks=[stop], logger=[memory, TensorBoardLogger(tmp_path)])
    assert stop.diverged_at == 0
    assert np.isnan(probes[0].table).any()
    own = [points for name, points in memory.seen.items() if name.startswith("probe/")]
    assert own
    assert all(np.isfinite(list(points.values())).all() for points in own)


def test_what_breaks_in_training_leaves_the_model_as_it_was() -> None:
    class Breaks(L.Callback):
        def on_before_backward(self, *_: Any) -> None:
            raise RuntimeError("broken")

    model = model_of("tagging", norm="bn-timestep")
    with pytest.raises(RuntimeError, match="broken"):
        fit(all_probes(every=1), model=model, callbacks=[Breaks()])
    assert "run_direction" not in vars(model.recurrent)
    assert model.recurrent.backend == "auto"
    assert all(stats.accumulator is None for stats in rnnnorm.norms.step_statistics(model))


def test_somebody_elses_model_is_measured_too() -> None:
    memory, model = Memory(), Foreign()
    probes = all_probes(every=1)
    trainer_of(callbacks=probes, logger=memory, max_epochs=2).fit(model, foreign_batches(), foreign_batches())
    assert probes[0].table.shape == (2 * STEPS, 6)
    assert {"probe/evaluation_gap/gap/running", "probe/gradient_flow/growth/l0/h"} <= memory.seen.keys()
    assert not {"log", "log_dict"} & vars(model).keys()


def test_a_model_without_a_validation_loss_is_left_out_with_one_warning() -> None:
    memory = Memory()
    trainer = trainer_of(callbacks=[EvaluationGap(every=1)], logger=memory, max_epochs=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(Foreign(returns=False), foreign_batches(), foreign_batches())
    assert len([w for w in caught if "EvaluationGap measures nothing: Foreign has no scores" in str(w.message)]) == 1
    assert not any(name.startswith("probe/") for name in memory.seen)


def test_models_without_networks_and_intervals_below_one_are_refused() -> None:
    class Plain(Foreign):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.GRU(3, 5, batch_first=True)

    with pytest.raises(ValueError, match="Plain contains no recurrent network"):
        trainer_of(callbacks=[Saturation()]).fit(Plain(), foreign_batches())
    for probe in ALL:
        with pytest.raises(ValueError, match="every must be an integer of at least 1 or None, got 0"):
            probe(every=0)


@pytest.mark.parametrize(("batches", "epochs", "expected"), [(3, 2, 6), (40, 1, 14), (200, 1, 13)], ids=str)
def test_the_interval_follows_the_length_of_the_run(batches: int, epochs: int, expected: int) -> None:
    probe = ActiveRows()
    given = Batches(batches_of("tagging")[k % 3] for k in range(batches))
    trainer_of(max_epochs=epochs, callbacks=[probe]).fit(model_of("tagging", hidden_size=2), given)
    assert len(probe.steps) == expected
    assert probe.steps[0] == 0


def test_a_run_of_unknown_length_has_columns_from_its_beginning() -> None:
    probe = ActiveRows()
    given = Batches(batches_of("tagging")[k % 3] for k in range(10))
    trainer = trainer_of(max_epochs=-1, max_time={"seconds": 1}, callbacks=[probe])
    trainer.fit(model_of("tagging", hidden_size=2), given)
    assert probe._expected == float("inf")
    assert len(probe.steps) >= min(12, trainer.global_step)


@pytest.mark.parametrize(
    ("expected", "interval"), [(5, 1), (504, 42), (1200, 100), (25_600, 100), (100_000, 391)], ids=str
)
def test_intervals_of_known_lengths(expected: int, interval: int) -> None:
    probe = GradientFlow()
    probe._expected = expected
    assert probe.interval == interval


def test_pictures_become_rarer() -> None:
    assert [n for n in range(1, 50) if is_drawn(n)] == [2, 3, 4, 6, 8, 12, 16, 24, 32, 48]
    assert sum(is_drawn(n) for n in range(1, 10**6)) < 40


class Linear(L.LightningModule):
    """An RNN without nonlinearity, whose loss sees its last step only, so that gradients are powers of a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.network = rnnnorm.RNN(1, 2, nonlinearity="identity")
        torch.nn.init.eye_(self.network.weight_hh_l0)
        self.network.weight_hh_l0.data *= factor

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.network(batch)[0][-1].sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize(("factor", "exploded"), [(0.5, None), (1.0, None), (2.0, 22)])
def test_an_explosion_is_marked_where_it_begins(factor: float, exploded: int | None) -> None:
    memory, probe = Memory(), GradientFlow(every=1)
    batches = Batches([torch.randn(30, 4, 1)] * 2)  # type: ignore[list-item]
    trainer_of(callbacks=[probe], logger=memory).fit(Linear(factor), batches)
    amplification = probe.tables["amplification/l0/h"].array()
    np.testing.assert_allclose(amplification[0], factor ** np.arange(29.0, -1, -1), rtol=1e-5)
    seen = {name.removeprefix("probe/gradient_flow/"): points[1] for name, points in memory.seen.items()}
    assert seen["amplification"] == pytest.approx(max(factor**29, 1.0))
    assert seen["growth/l0/h"] == pytest.approx(factor)
    assert seen.get("exploded_at") == exploded
    (heat_map,) = probe.heat_maps
    panels = heat_map.layers(probe.tables)["l0"]
    word = {0.5: "falls 10-fold every 3.3", 1.0: "stays as large", 2.0: "grows 10-fold every 3.3"}
    assert word[factor] in probe.shows(heat_map, panels)
