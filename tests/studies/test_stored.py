"""By how much stored statistics are off, and what they are at rest."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from support import buffers
from tasks.tiny import batches_of, model_of

from rnnnorm.norms import recalibrate
from rnnnorm.studies.measures.stored import at_rest, can_rest, moments_by_step, off_by, per_step, squared_error


def recalibrated(norm: str = "bn-timestep"):
    torch.manual_seed(0)
    model, batches = model_of("multi-label", norm=norm).eval(), batches_of("multi-label")
    recalibrate(model, batches, forward=model.scores)
    return model, batches


@pytest.mark.parametrize("norm", ["bn-timestep", "bn-shared", "bn-window:window=4", "bn-timestep:max_steps=2"])
def test_moments_are_those_of_each_steps_rows_whatever_is_stored(norm: str) -> None:
    model, batches = recalibrated(norm)
    before = buffers(model)
    target = moments_by_step(model, batches, 9)
    at_input = target[[m is model.recurrent.norms("_l0").input for m in per_step(model)].index(True)]
    for t in range(9):
        rows = [
            batch.input.data.split(batch.input.batch_sizes.tolist())[t]
            for batch in batches
            if len(batch.input.batch_sizes) > t
        ]
        a = torch.cat(rows) @ model.recurrent.weight_ih_l0.T
        assert torch.allclose(at_input.population_mean[t], a.mean(0), atol=1e-5)
        assert at_input.population_rows[t] == len(a)
        if len(a) > 1:
            assert torch.allclose(at_input.population_var[t], a.var(0), atol=1e-4)
    assert all(tensor.equal(before[name]) for name, tensor in buffers(model).items())


def test_squared_error_is_that_of_normalized_values() -> None:
    torch.manual_seed(0)
    model, batches = recalibrated()
    right = moments_by_step(model, batches, 9)[0]
    mean, var = right.population_mean + 0.3, right.population_var * 1.7 + 0.2
    mu, sigma2 = right.population_mean[0, :5].double(), right.population_var[0, :5].double()
    noise = torch.randn(400_000, 5, dtype=torch.float64)
    x = mu + (sigma2 + 1e-5).sqrt() * (noise - noise.mean(0)) / noise.std(0)
    stored = (x - mean[0, :5]) / (var[0, :5].double() + 1e-5).sqrt()
    exact = (x - mu) / (sigma2 + 1e-5).sqrt()
    assert torch.allclose(squared_error(mean, var, right, 1e-5)[0, :5], (stored - exact).square().mean(0), rtol=1e-4)


def test_off_by() -> None:
    model, batches = recalibrated()
    target = moments_by_step(model, batches, 9, "consistent")
    assert dict(off_by(model, target, "population", min_rows=2)) == pytest.approx(
        dict.fromkeys(range(7), 0.0), abs=0.02
    )
    for norm in per_step(model):
        norm.stats.running_var.copy_(norm.stats.population_var)
        norm.stats.num_rows.copy_(norm.stats.population_rows)
        shift = 2 * (norm.stats.population_var + norm.eps).sqrt()
        norm.stats.running_mean.copy_(norm.stats.population_mean + shift)
    errors = dict(off_by(model, target, "running", min_rows=5))
    assert errors == pytest.approx(dict.fromkeys(errors, 2.0), rel=0.01)
    rows = target[0].population_rows.tolist()
    assert list(errors) == [t for t in range(9) if rows[t] >= 5]


def test_nothing_is_off_where_nothing_is_stored_per_step() -> None:
    for norm in ("none", "bn-vertical"):
        model, batches = recalibrated(norm)
        assert list(off_by(model, moments_by_step(model, batches, 9), "running")) == []


def test_at_rest_averages_start_from_the_population_and_see_one_pass() -> None:
    model, batches = recalibrated()
    before = buffers(model)
    rested = at_rest(model, batches[:1])
    old, new = (m.recurrent.norms("_l0").input for m in (model, rested))
    a = batches[0].input.data[:4] @ model.recurrent.weight_ih_l0.T  # four sequences at the first step
    expected = 0.9 * old.stats.population_mean[0] + 0.1 * a.mean(0)
    assert torch.allclose(new.stats.running_mean[0], expected, atol=1e-5)
    assert torch.allclose(new.stats.running_var[0], 0.9 * old.stats.population_var[0] + 0.1 * a.var(0), atol=1e-4)
    assert not any(module.training for module in rested.modules())
    assert all(tensor.equal(before[name]) for name, tensor in buffers(model).items())


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        *((norm, True) for norm in ("bn-timestep", "bn-shared", "bn-window")),
        *((norm, False) for norm in ("bn-frozen", "brn", "bn-vertical", "ln", "none")),
    ],
)
def test_what_can_rest(norm: str, expected: bool) -> None:
    assert can_rest(deepcopy(model_of("tagging", norm=norm))) is expected
