"""Streaming Normalization against its averages, forward and backward."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import assert_same, buffers
from torch.autograd import gradcheck

import rnnnorm
from rnnnorm.norms.streaming import StreamingNorm

DOUBLE = torch.float64
C = 3


def make(**options: object) -> StreamingNorm:
    return StreamingNorm(C, dtype=DOUBLE, **options)  # type: ignore[arg-type]


def rows(n: int = 5) -> torch.Tensor:
    return torch.randn(n, C, dtype=DOUBLE) * 2 + 1


def update(norm: StreamingNorm) -> None:
    """What an optimizer does to the gain."""
    with torch.no_grad():
        norm.gain += 0.01


class Stream:
    """Long-term and short-term average, in a few lines of NumPy that keep everything."""

    def __init__(self, kappa: float) -> None:
        self.kappa, self.long, self.values, self.weights = kappa, None, [], []

    def push(self, value: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
        self.values.append(value)
        self.weights.append(weight)
        short = np.average(self.values, axis=0, weights=self.weights)
        return short if self.long is None else self.long, short

    def update(self) -> None:
        short = np.average(self.values, axis=0, weights=self.weights)
        self.long = short if self.long is None else self.kappa * self.long + (1 - self.kappa) * short
        self.values, self.weights = [], []


@pytest.mark.parametrize("p", [1, 2])
def test_training_is_two_streams(p: int) -> None:
    norm = make(p=p, alpha=0.6, beta_long=0.5, beta_short=0.2, kappa_forward=0.8, kappa_backward=0.3)
    forward, backward = Stream(0.8), Stream(0.3)
    for accumulated in (2, 1, 3, 2):  # passes per weight update
        for n in (5, 3)[:accumulated] + (4,) * (accumulated - 2):
            x, g = rows(n).requires_grad_(), rows(n)
            y = norm(x)
            (dx,) = torch.autograd.grad(y, x, g)

            a, d, gain = x.detach().numpy(), g.numpy(), norm.gain.detach().numpy()
            mean = a.mean(0)
            deviation = (np.abs(a - mean) ** p).mean(0) ** (1 / p)
            long, short = forward.push(np.stack([mean, deviation]), n)
            mu, s = 0.6 * long + 0.4 * short
            root = np.sqrt(s**2 + 1e-5)
            assert_same(y, torch.from_numpy(gain * (a - mu) / root), "output", 1e-12)

            d = d * gain
            arrived = np.stack([-(d / root).sum(0), -(d * (a - mu) / root**3).sum(0) * s])
            long, short = backward.push(arrived, 1)
            d_mean, d_deviation = 0.5 * long + 0.2 * short + 0.3 * arrived
            if p == 1:
                sign = np.sign(a - mean)
                through = d_deviation * (sign - sign.mean(0)) / n
            else:
                through = d_deviation * (a - mean) / (n * deviation)
            assert_same(dx, torch.from_numpy(d / root + d_mean / n + through), "gradient", 1e-12)
            assert_same(norm.stats.running_mean[0], torch.from_numpy(mu), "mean", 1e-12)
            assert_same(norm.stats.running_var[0], torch.from_numpy(s**2), "squared deviation", 1e-12)
        update(norm)
        forward.update()
        backward.update()


def test_short_term_only_with_current_gradients_is_batch_normalization() -> None:
    """The special case that the paper names: α = 0, all of the gradient from the batch at hand."""
    norm = make(alpha=0.0, beta_long=0.0)
    for _ in range(3):
        x, g = rows().requires_grad_(), rows()
        expected = F.batch_norm(x, None, None, norm.gain, None, True)
        y = norm(x)
        assert_same(y, expected, "output", 1e-12)
        (ours,), (theirs,) = torch.autograd.grad(y, x, g), torch.autograd.grad(expected, x, g)
        assert_same(ours, theirs, "gradient", 1e-12)
        update(norm)


@pytest.mark.parametrize("p", [1, 2])
def test_training_and_evaluation_are_one_function(p: int) -> None:
    norm = make(p=p)
    for _ in range(3):
        norm(rows())
        update(norm)
    x = rows()
    expected = norm(x)
    assert_same(norm.eval()(x), expected, "output", 1e-12)


def test_without_a_weight_update_everything_is_short_term() -> None:
    norm = make()
    x = rows(12)
    for part in x.split([5, 4, 3]):
        norm(part)
    assert_same(norm.stats.running_mean[0], x.mean(0), "each row counts alike", 1e-12)
    assert not norm.forward_stream["long"].any()


def test_one_row_counts_by_its_deviation_from_the_stored_mean() -> None:
    norm = make()
    norm(rows())
    update(norm)
    mean = norm.stats.running_mean[0].clone()
    x = rows(1)
    assert norm(x).isfinite().all()
    assert_same(norm.forward_stream["short"], torch.stack([x[0], (x[0] - mean).abs()]), "short", 1e-12)


def test_trains_with_one_row_at_a_time() -> None:
    norm = make(kappa_forward=0.99)
    for _ in range(2000):
        norm(rows(1))
        update(norm)
    long = norm.forward_stream["long"]
    assert_same(long[0], torch.ones(C, dtype=DOUBLE), "mean", 0.6)
    assert 1.2 < long[1].min() < long[1].max() < 3.0  # rows have a standard deviation of 2


def test_rows_that_agree_have_finite_gradients() -> None:
    x = torch.zeros(4, C, dtype=DOUBLE, requires_grad=True)
    make()(x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("source", ["running", "batch", "population"])
def test_evaluation_is_exact_and_moves_nothing(source: str, p: int) -> None:
    norm = make(p=p, bias=True)
    norm(rows())
    data = rows(30)
    rnnnorm.recalibrate(norm, data.split(10))
    norm.eval()
    update(norm)
    before = buffers(norm)
    x = rows()
    with rnnnorm.statistics(norm, source):
        assert gradcheck(norm, rows(3).requires_grad_())
        y = norm(x)
        norm(x[:1])
    mean, s = norm.stats.running_mean[0], norm.stats.running_var[0].sqrt()
    if source == "batch":
        mean = x.mean(0)
        s = (x - mean).abs().mean(0) if p == 1 else x.std(0, unbiased=False)
    elif source == "population":
        mean, s = data.mean(0), data.std(0) * (math.sqrt(2 / math.pi) if p == 1 else 1)
    assert_same(y, norm.gain * (x - mean) / (s**2 + 1e-5).sqrt(), "output", 1e-9)
    assert all(torch.equal(before[name], value) for name, value in buffers(norm).items())


def test_copies_go_on_alike() -> None:
    """A weight update is noticed by the gain's values, so also in a copy and after loading."""
    norm, fresh = make(), make()
    x = rows().requires_grad_()
    norm(x).sum().backward()
    update(norm)
    fresh.load_state_dict(norm.state_dict())
    for _ in range(2):
        x = rows()
        assert torch.equal(norm(x), fresh(x))
        update(norm)
        update(fresh)


def test_reset() -> None:
    norm = make()
    norm(rows().requires_grad_()).sum().backward()
    update(norm)
    norm.reset_parameters()
    for state in (norm.forward_stream, norm.backward_stream, norm.seen):
        assert not any(b.any() for b in state.buffers())
