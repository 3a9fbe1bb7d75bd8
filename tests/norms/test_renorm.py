"""Batch Renormalization against its equations, its schedule and what it promises."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from support import HIDDEN, INPUT, LENGTHS, assert_same, padded
from torch import Tensor

import rnnnorm
from rnnnorm.norms import BatchNorm
from rnnnorm.norms.renorm import BatchRenorm

DOUBLE, F = torch.float64, 3


def make(**options: object) -> BatchRenorm:
    return BatchRenorm(F, dtype=DOUBLE, **options)  # type: ignore[arg-type]


def at_once(**options: object) -> BatchRenorm:
    """The final bounds from the first step on."""
    return make(warmup=0, r_end=0, d_end=0, **options)


def batch(n: int = 8, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    return torch.randn(n, F, dtype=DOUBLE) * scale + shift


def test_several_batches_against_numpy() -> None:
    norm = make(statistics="timestep", r_max=1.5, d_max=0.5, warmup=2, r_end=6, d_end=4, momentum=0.3, gain=0.7)
    mu, sigma, r_used = np.zeros(F), np.ones(F), []
    for step in range(8):
        x = batch(shift=0.4 * step, scale=1 + step)
        rise = lambda end, step=step: min(max((step - 2) / (end - 2), 0), 1)  # noqa: E731
        r_max, d_max = 1 + 0.5 * rise(6), 0.5 * rise(4)
        a = x.numpy()
        mean, dev = a.mean(0), np.sqrt(a.var(0) + 1e-5)
        r, d = np.clip(dev / sigma, 1 / r_max, r_max), np.clip((mean - mu) / sigma, -d_max, d_max)
        if step == 0:
            r, d, mu, sigma = np.ones(F), np.zeros(F), mean, dev
        expected = 0.7 * ((a - mean) / dev * r + d)
        assert_same(norm(x, 1), torch.from_numpy(expected), f"output {step}", 1e-12)
        if step:
            mu, sigma = mu + 0.3 * (mean - mu), sigma + 0.3 * (dev - sigma)
        r_used.append(r)
    assert np.abs(np.array(r_used) - 1).max() > 0.3  # the correction took part
    assert_same(norm.stats.running_mean[1], torch.from_numpy(mu), "μ", 1e-12)
    assert_same((norm.stats.running_var[1] + 1e-5).sqrt(), torch.from_numpy(sigma), "σ", 1e-12)
    x = batch()
    assert_same(norm.eval()(x, 1), torch.from_numpy(0.7 * (x.numpy() - mu) / sigma), "evaluation", 1e-10)


def test_the_papers_schedule() -> None:
    norm = make()
    assert norm.bounds(0) == norm.bounds(5000) == (1.0, 0.0)
    assert norm.bounds(15000) == pytest.approx((1 + 2 * 10000 / 35000, 2.5))
    assert norm.bounds(25000)[1] == 5
    assert norm.bounds(40000) == norm.bounds(10**7) == (3.0, 5.0)


def test_warm_up_is_batch_normalization() -> None:
    ours, theirs = rnnnorm.LSTM(INPUT, HIDDEN, norm="brn", dtype=DOUBLE), None
    theirs = rnnnorm.LSTM(INPUT, HIDDEN, norm="bn-timestep", dtype=DOUBLE)
    state = {k: v for k, v in ours.state_dict().items() if not k.endswith("training_steps")}
    theirs.load_state_dict(state)
    for _ in range(3):
        x = padded(dtype=DOUBLE)
        assert_same(ours(x, lengths=LENGTHS)[0], theirs(x, lengths=LENGTHS)[0], "output", 1e-10)


def test_unclipped_training_is_evaluation() -> None:
    norm = at_once(r_max=1e9, d_max=1e9)
    for _ in range(3):
        norm(batch(shift=1))
    x = batch(shift=3, scale=2)
    expected = copy.deepcopy(norm).eval()(x)
    assert_same(norm(x), expected, "output", 1e-10)
    assert not torch.allclose(expected, BatchNorm(F, dtype=DOUBLE)(x))


def test_the_gradient_is_that_of_batch_normalization_times_r() -> None:
    norm = at_once(r_max=2.0)
    norm(batch(scale=0.7))
    x = batch(scale=1.0)
    slot = norm.stats
    r = ((x.var(0, unbiased=False) + 1e-5) / (slot.running_var[0] + 1e-5)).sqrt().clamp(0.5, 2)
    gradients = []
    for module in (norm, BatchNorm(F, dtype=DOUBLE)):
        leaf = x.clone().requires_grad_()
        (module(leaf) * torch.arange(24, dtype=DOUBLE).view(8, 3)).sum().backward()
        gradients.append(leaf.grad)
    assert_same(gradients[0], gradients[1] * r, "grad", 1e-10)
    assert (r - 1).abs().max() > 0.05


def test_a_training_step_is_a_batch_not_a_timestep() -> None:
    lstm = rnnnorm.LSTM(INPUT, HIDDEN, 2, norm="brn")
    for _ in range(3):
        lstm(padded(), lengths=LENGTHS)
    steps = {name: int(b) for name, b in lstm.named_buffers() if name.endswith("training_steps")}
    assert len(steps) == 6
    assert set(steps.values()) == {3}
    lstm.eval()(padded())
    assert {int(b) for name, b in lstm.named_buffers() if name.endswith("training_steps")} == {3}
    whole = at_once()
    for _ in range(3):
        whole.sequence(batch(), [5, 3])
    assert int(whole.training_steps) == 3


def test_a_late_step_that_occurs_for_the_first_time_is_not_corrected() -> None:
    norm = at_once(statistics="timestep")
    norm(batch(shift=9), 0)
    x = batch(shift=50, scale=9)
    assert_same(norm(x, 7), BatchNorm(F, dtype=DOUBLE)(x), "first time", 1e-12)
    assert_same(norm.stats.running_mean[7], x.mean(0), "mean", 1e-12)


def test_steps_beyond_max_steps_are_corrected_towards_the_last_slot() -> None:
    norm = at_once(statistics="timestep", max_steps=2, r_max=1e9, d_max=1e9)
    norm(batch(shift=2), 1)
    x = batch(shift=5)
    expected = copy.deepcopy(norm).eval()(x, 9)
    assert_same(norm(x, 9), expected, "output", 1e-10)
