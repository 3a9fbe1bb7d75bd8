"""Statistics per step: those that are stored, those of the batch, and how far they are from being one."""

from __future__ import annotations

import copy
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from tasks.tiny import Batches, batch_of, batches_of, model_of, trainer_of
from torch import Tensor

from rnnnorm.norms import recalibrate
from rnnnorm.probes import StepStatistics
from rnnnorm.probes.step_statistics import distance_from_pool

pytestmark = pytest.mark.filterwarnings("ignore")


def measured(model: L.LightningModule, batches: Batches) -> dict[str, Tensor]:
    probe = StepStatistics(every=1)
    trainer_of(callbacks=[probe]).fit(model, batches)
    return {name: torch.from_numpy(table.array()[-1]).double() for name, table in probe.tables.items()}


def compare(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual[: len(expected)], expected.double(), rtol=1e-4, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("norm", ["bn-timestep", "bn-timestep:window=3", "bn-shared", "bn-vertical"])
def test_stored_statistics_are_those_of_the_normalizer(norm: str) -> None:
    model = model_of("tagging", norm=norm)
    recalibrate(model, batches_of("tagging"), forward=model.scores)
    found = measured(model, batches_of("tagging"))
    place = "input" if norm == "bn-vertical" else "hidden"
    stats = getattr(model.recurrent.norms("_l0"), place).stats
    window = stats.window
    for source, mean, var, rows in (
        ("running", stats.running_mean, stats.running_var, stats.num_rows),
        ("population", stats.population_mean, stats.population_var, stats.population_rows),
    ):
        rms, variance = mean.square().mean(1).sqrt(), var.mean(1)
        rms[rows == 0], variance[rows == 0] = torch.nan, torch.nan
        compare(found[f"mean/{source}/l0/{place}"], rms.repeat_interleave(window))
        compare(found[f"variance/{source}/l0/{place}"], variance.repeat_interleave(window))


@pytest.mark.parametrize("norm", ["bn-timestep", "bn-shared"])
def test_batch_statistics_are_those_of_the_rows_of_each_step(norm: str) -> None:
    model = model_of("tagging", norm=norm)
    batch = batch_of(model.spec, [9, 5, 5, 2])
    rows = F.linear(model._embedded(batch.input).data, model.recurrent.weight_ih_l0).detach()
    found = measured(copy.deepcopy(model), Batches([batch]))
    steps = rows.split_with_sizes(batch.input.batch_sizes.tolist())
    compare(found["mean/batch/l0/input"], torch.stack([s.mean(0).square().mean().sqrt() for s in steps]))
    compare(found["variance/batch/l0/input"], torch.stack([s.var(0, correction=0).mean() for s in steps]))


def test_the_step_takes_the_same_statistics_with_and_without_the_probe() -> None:
    model = model_of("tagging", norm="bn-timestep:frozen=true")
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    plain, probed = copy.deepcopy(model), copy.deepcopy(model)
    trainer_of().fit(plain, batches_of("tagging"))
    found = measured(probed, batches_of("tagging"))
    assert not any("batch" in name for name in found)  # what a frozen normalizer does not look at
    for p, q in zip(plain.parameters(), probed.parameters(), strict=True):
        assert torch.equal(p, q)


def test_discrepancy_of_training_and_inference_is_measured_in_deviations_of_the_batch() -> None:
    """After one batch, running averages are .9 × (0, 1) + .1 × its moments."""
    model = model_of("tagging", norm="bn-timestep")
    batch = batch_of(model.spec, [9, 5, 5, 2])
    rows = F.linear(model._embedded(batch.input).data, model.recurrent.weight_ih_l0).detach()
    found = measured(model, Batches([batch]))
    sizes, eps = batch.input.batch_sizes.tolist(), 1e-5
    for t, step in enumerate(rows.split_with_sizes(sizes)):
        if len(step) < 2:
            assert found["tid_mean/l0/input"][t].isnan()
            continue
        s = (step.var(0, correction=0) + eps).sqrt()
        running = (0.9 + 0.1 * step.var(0) + eps).sqrt()
        compare(found["tid_mean/l0/input"][t : t + 1], (0.9 * step.mean(0).abs() / s).mean().view(1))
        compare(found["tid_variance/l0/input"][t : t + 1], (running / s - 1).abs().mean().view(1))


def gaussian_kl(mean: Tensor, var: Tensor, other_mean: Tensor, other_var: Tensor) -> Tensor:
    p, q = torch.distributions.Normal(mean, var.sqrt()), torch.distributions.Normal(other_mean, other_var.sqrt())
    return torch.distributions.kl_divergence(p, q)


def test_distance_is_the_mean_of_both_divergences_to_the_pooled_rows() -> None:
    parts: list[Any] = [torch.randn(n, 4, dtype=torch.float64) * (k + 1) + k for k, n in enumerate((7, 5, 2))]
    n = torch.tensor([len(p) for p in parts])
    mean = torch.stack([p.mean(0) for p in parts])
    var = torch.stack([p.var(0, correction=0) for p in parts])
    rows, eps = torch.cat(parts), 1e-3
    pool = rows.mean(0), rows.var(0, correction=0) + eps
    forth = gaussian_kl(mean, var + eps, *pool)
    back = gaussian_kl(*pool, mean, var + eps)
    torch.testing.assert_close(distance_from_pool(n, mean, var, eps), ((forth + back) / 2).mean(1))


def test_equal_distributions_are_about_one_row_th_apart() -> None:
    n = 50
    rows = torch.randn(40, n, 200)
    found = distance_from_pool(torch.full((40,), n), rows.mean(1), rows.var(1, correction=0), 0.0)
    assert float(found.mean()) == pytest.approx(1 / n, rel=0.1)
