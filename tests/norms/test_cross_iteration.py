"""Cross-Iteration Batch Normalization against a version that keeps all rows and writes the derivatives out."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from support import HIDDEN, INPUT, LENGTHS, assert_same, padded
from torch import Tensor

import rnnnorm
from rnnnorm.norms import BatchNorm
from rnnnorm.norms.cross_iteration import CrossIterationBatchNorm, _combine

DOUBLE, I, F = torch.float64, 3, 4  # noqa: E741


def make(**options: object) -> CrossIterationBatchNorm:
    return CrossIterationBatchNorm(F, dtype=DOUBLE, **options)  # type: ignore[arg-type]


def batch(n: int = 6, shift: float = 0.5) -> Tensor:
    return torch.randn(n, I, dtype=DOUBLE) + shift


def weights(number: int, step: float = 0.1) -> list[Tensor]:
    """A weight that moves."""
    W = torch.randn(F, I, dtype=DOUBLE)
    moved = [W]
    for _ in range(number - 1):
        moved.append(moved[-1] + step * torch.randn(F, I, dtype=DOUBLE))
    return moved


def taylor(x: np.ndarray, then: np.ndarray, now: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """μ and E[y²] of rows x under weights `then`, to first order at `now`: derivatives written out entry by entry."""
    y = x @ then.T
    mu, nu = y.mean(0), (y**2).mean(0)
    for f in range(F):
        for i in range(I):
            dmu, dnu = x[:, i].mean(), (2 * y[:, f] * x[:, i]).mean()
            mu[f] += dmu * (now - then)[f, i]
            nu[f] += dnu * (now - then)[f, i]
    return mu, nu


def expected(past: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray, W: np.ndarray) -> np.ndarray:
    """The paper's equations, features with a negative variance left out as in the authors' code; newest batch last."""
    estimates = [taylor(*pair, W) for pair in past] + [taylor(x, W, W)]
    mu, nu = (np.array(e) for e in zip(*estimates, strict=True))
    keep = nu - mu**2 >= 0
    keep[-1] = True
    mean = (mu * keep).sum(0) / keep.sum(0)
    var = (nu * keep).sum(0) / keep.sum(0) - mean**2
    return (x @ W.T - mean) / np.sqrt(var + 1e-5)


@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize("statistics", ["sequence", "timestep"])
@pytest.mark.parametrize("step", [0.1, 1.0], ids=["small-steps", "large-steps"])
def test_several_iterations_against_numpy(statistics: str, window: int, step: float) -> None:
    norm = make(statistics=statistics, window=window)
    past: list[tuple[np.ndarray, np.ndarray]] = []
    running = np.zeros(F)
    dropped = 0
    for k, W in enumerate(weights(7, step)):
        x = batch(4 + k % 3, shift=k / 2)
        recent = past[len(past) - min(window - 1, len(past)) :]
        want = expected(recent, x.numpy(), W.numpy())
        assert_same(norm.linear(x, W, 0), torch.from_numpy(want), f"iteration {k}", 1e-10)
        dropped += sum(int((nu < mu**2).sum()) for mu, nu in (taylor(*pair, W.numpy()) for pair in recent))
        past.append((x.numpy(), W.numpy()))
        running = 0.9 * running + 0.1 * (x.numpy() @ W.numpy().T).mean(0)
    assert (dropped > 0) == (step == 1.0 and window > 1)  # negative variances occur here, and only here
    assert_same(norm.stats.running_mean[0], torch.from_numpy(running), "running mean", 1e-12)


def test_compensation_brings_moments_to_the_present_weights() -> None:
    """To first order in the step: the error of compensated moments falls with its square."""
    x, (W, there) = batch(50), weights(2, 1.0)
    errors = []
    for size in (1e-2, 1e-3):
        norm, now = make(), W + size * (there - W)
        norm.linear(x, W)
        norm.history.begin(now)
        mean, var, count = norm.history.recall(0, now)
        y = x @ now.T
        assert count[0].all()
        assert not count[1:].any()
        assert_same(mean[0], y.mean(0), "mean", 1e-10)
        error = (var[0] - y.var(0, unbiased=False)).abs().max()
        assert error < 0.1 * ((x @ W.T).var(0, unbiased=False) - y.var(0, unbiased=False)).abs().max()
        errors.append(error.item())
    assert errors[1] < 0.02 * errors[0]


def test_without_movement_it_is_the_batch_of_all_rows() -> None:
    norm, W = make(window=3), weights(1)[0]
    batches = [batch(5, shift=k) for k in range(4)]
    for x in batches:
        y = norm.linear(x, W)
    together = torch.cat(batches[1:]) @ W.T
    assert_same(y, BatchNorm(F, dtype=DOUBLE)(together)[-5:], "output", 1e-10)


def test_only_the_current_batch_is_differentiated() -> None:
    norm = make(window=2, eps=1e-12)
    first, second = weights(2)
    norm.linear(batch(), first)
    x, v = batch(), torch.randn(6, F, dtype=DOUBLE)
    W = second.clone().requires_grad_()
    state = copy.deepcopy(norm)
    (norm.linear(x, W) * v).sum().backward()
    state.history.begin(second)
    mean, var, count = state.history.recall(0, second)
    leaf = second.clone().requires_grad_()
    y = x @ leaf.T
    mixed = _combine(y.mean(0), y.var(0, unbiased=False), mean, var, count)
    (((y - mixed[0]) / mixed[1].sqrt()) * v).sum().backward()
    assert_same(W.grad, leaf.grad, "grad", 1e-6)


def test_each_step_has_its_own_window_in_a_ragged_batch() -> None:
    norm = make(statistics="timestep", max_steps=4)
    W0, W1, W2 = weights(3)
    first, second, third = (torch.randn(n, I, dtype=DOUBLE) for n in (9, 4, 9))
    norm.sequence_linear(first, W0, [4, 3, 2])
    norm.sequence_linear(second, W1, [4])  # steps 1 and 2 are missing from this iteration
    y = norm.sequence_linear(third, W2, [4, 3, 2])
    a, b, c = first.numpy(), second.numpy(), third.numpy()
    W0, W1, W2 = W0.numpy(), W1.numpy(), W2.numpy()
    wanted = [
        expected([(a[:4], W0), (b, W1)], c[:4], W2),
        expected([(a[4:7], W0)], c[4:7], W2),
        expected([(a[7:], W0)], c[7:], W2),
    ]
    assert_same(y, torch.from_numpy(np.concatenate(wanted)), "output", 1e-10)


def test_burn_in_is_batch_normalization() -> None:
    norm, plain = make(burn_in=2), BatchNorm(F, dtype=DOUBLE)
    for k, W in enumerate(weights(4)):
        x = batch(shift=k)
        y, z = norm.linear(x, W), plain(x @ W.T)
        assert torch.allclose(y, z, atol=1e-10) == (k < 2), k


def test_an_iteration_is_a_batch_not_a_timestep() -> None:
    lstm = rnnnorm.LSTM(INPUT, HIDDEN, 2, bidirectional=True, norm="cbn", max_steps=7)
    optimizer = torch.optim.Adam(lstm.parameters(), 0.01)
    for _ in range(6):
        optimizer.zero_grad()
        lstm(padded(), lengths=LENGTHS)[0].square().sum().backward()
        optimizer.step()
    history = lstm.norms("_l1_reverse").hidden.history
    assert int(history.iteration) == 6
    assert history.born.tolist() == [[4] * 7, [5] * 7, [6] * 7, [3] * 7]
    assert all(p.isfinite().all() for p in lstm.parameters())
    stored = sum(b.numel() for name, b in lstm.norms("_l0").hidden.named_buffers() if b.is_floating_point())
    assert stored == 2 * 7 * 4 * HIDDEN + 4 * 7 * (HIDDEN + HIDDEN**2) + 4 * 4 * HIDDEN * HIDDEN


def test_beyond_max_steps_a_batch_stands_alone() -> None:
    norm = make(statistics="timestep", max_steps=2)
    for W in weights(3):
        x = batch()
        assert_same(norm.linear(x, W, 5), BatchNorm(F, dtype=DOUBLE)(x @ W.T), "output", 1e-10)


def test_where_it_cannot_stand() -> None:
    for place in ("joint", "cell", "output", "emitted", "between"):
        with pytest.raises(ValueError, match=f"cannot stand at {place}: it compensates for changes of a weight"):
            rnnnorm.Norm(**{place: "cbn:statistics=timestep"})
    with pytest.raises(ValueError, match=r"cannot stand at hidden: .*all steps at once"):
        rnnnorm.Norm(hidden="cbn")
    with pytest.raises(ValueError, match="needs the factors"):
        make()(batch(6) @ torch.randn(I, F, dtype=DOUBLE))
