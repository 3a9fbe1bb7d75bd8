"""Variants of batch normalization: on the sum, BN-e*, windows of steps, frozen statistics, absolute deviations."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from support import HIDDEN, INPUT, LENGTHS, assert_same, buffers, packed, padded
from torch import Tensor, nn

import rnnnorm
from rnnnorm.norms import BatchNorm, StoredStatistics, Use
from rnnnorm.norms.absolute import L1BatchNorm

DOUBLE = torch.float64
T, B, H = 7, 5, HIDDEN


def make(norm: str, **options: object) -> rnnnorm.LSTM:
    torch.manual_seed(3)
    return rnnnorm.LSTM(INPUT, H, norm=norm, dtype=DOUBLE, **options)  # type: ignore[arg-type]


def train(lstm: rnnnorm.LSTM, batches: int = 3) -> rnnnorm.LSTM:
    torch.manual_seed(4)
    for _ in range(batches):
        lstm(padded(dtype=DOUBLE), lengths=LENGTHS)
    return lstm


class TestJoint:
    def test_one_batchnorm_of_the_sum_per_step(self) -> None:
        lstm = make("bn-joint", max_steps=T)
        joint = lstm.norms("_l0").joint
        assert joint.gain.eq(1).all()
        assert joint.bias is None
        theirs = [nn.BatchNorm1d(4 * H, dtype=DOUBLE, affine=False) for _ in range(T)]
        for training in (True, True, False):
            lstm.train(training)
            x = torch.randn(T, B, INPUT, dtype=DOUBLE)
            h = c = torch.zeros(B, H, dtype=DOUBLE)
            for t in range(T):
                z = theirs[t].train(training)(x[t] @ lstm.weight_ih_l0.T + h @ lstm.weight_hh_l0.T) + lstm.bias_ih_l0
                i, f, g, o = z.chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
            assert_same(lstm(x)[0][-1], h, "h", 1e-9)


class TestStar:
    def test_the_input_term_is_normalized_over_the_whole_sequence(self) -> None:
        lstm = make("bn-star", max_steps=T)
        norms = lstm.norms("_l0")
        assert [n.gain[0].item() for n in (norms.input, norms.hidden, norms.cell)] == pytest.approx([0.1] * 3)
        x = packed(dtype=DOUBLE)
        lstm(x)
        u = x.data @ lstm.weight_ih_l0.T
        assert norms.input.stats.running_mean.shape == (1, 4 * H)
        assert_same(norms.input.stats.running_mean[0], 0.1 * u.mean(0), "running mean", 1e-12)
        y = norms.input.eval()._by_batch(u)
        assert_same(y, 0.1 * (u - u.mean(0)) / (u.var(0, unbiased=False) + 1e-6).sqrt(), "input term", 1e-10)
        assert norms.hidden.stats.num_rows.tolist() == [5, 4, 4, 3, 3, 2, 2]


class TestWindow:
    @pytest.mark.parametrize("tail", ["last", "pool", "error"])
    def test_a_window_of_one_is_bn_timestep(self, tail: str) -> None:
        one, step = (train(make(f"{n}:tail={tail}", max_steps=T)) for n in ("bn-window:window=1", "bn-timestep"))
        for (key, value), other in zip(buffers(one).items(), buffers(step).values(), strict=True):
            assert torch.equal(value, other), key
        x = padded(dtype=DOUBLE)
        assert torch.equal(one.eval()(x)[0], step.eval()(x)[0])

    @pytest.mark.parametrize("window", [T, 100])
    def test_a_window_of_all_steps_is_bn_shared(self, window: int) -> None:
        all_steps, shared = train(make(f"bn-window:window={window}", max_steps=T)), train(make("bn-shared"))
        for (key, value), other in zip(buffers(all_steps).items(), buffers(shared).values(), strict=True):
            assert torch.equal(value, other), key
        x = padded(dtype=DOUBLE)
        assert torch.equal(all_steps.eval()(x)[0], shared.eval()(x)[0])

    def test_a_window_between_pools_the_running_averages_of_its_steps(self) -> None:
        norm = BatchNorm(2, statistics="timestep", window=3, max_steps=7, dtype=DOUBLE)
        theirs = [nn.BatchNorm1d(2, dtype=DOUBLE, affine=False) for _ in range(3)]
        for t in [0, 1, 2, 3, 4, 5, 6] * 2:
            x = torch.randn(4, 2, dtype=DOUBLE) + t
            assert_same(norm(x, t), theirs[t // 3](x), f"step {t}", 1e-12)
        for s, their in enumerate(theirs):
            assert_same(norm.stats.running_mean[s], their.running_mean, f"mean {s}", 1e-12)
            assert_same(norm.stats.running_var[s], their.running_var, f"variance {s}", 1e-12)

    def test_max_steps_counts_steps(self) -> None:
        stats = StoredStatistics(1, 25, window=10)
        assert stats.running_mean.shape[0] == 3
        assert [stats.slot(t) for t in (0, 9, 10, 24, 25, 29)] == [0, 0, 1, 2, None, None]
        pool = StoredStatistics(1, 25, "pool", window=10)
        assert pool.running_mean.shape[0] == 4
        assert [pool.slot(t) for t in (24, 25, 99)] == [2, 3, 3]
        assert make("bn-window").norms("_l0").cell.stats.running_mean.shape[0] == 10

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="window must be an integer of at least 1, got 0"):
            BatchNorm(2, statistics="timestep", window=0)
        with pytest.raises(ValueError, match=r'it needs statistics="timestep", got .shared.'):
            BatchNorm(2, statistics="shared", window=2)


class TestFrozen:
    def test_training_is_evaluation(self) -> None:
        lstm = make("bn-frozen", max_steps=T)
        lstm.load_state_dict(train(make("bn-timestep", max_steps=T)).state_dict())
        before = buffers(lstm)
        x = padded(dtype=DOUBLE)
        trained = lstm(x, lengths=LENGTHS)[0]
        assert torch.equal(trained, lstm.eval()(x, lengths=LENGTHS)[0])
        assert not torch.allclose(trained, make("bn-frozen", max_steps=T)(x, lengths=LENGTHS)[0])
        assert all(torch.equal(value, before[key]) for key, value in buffers(lstm).items())

    def test_without_statistics_it_is_a_gain(self) -> None:
        norm = BatchNorm(3, frozen=True, gain=0.1)
        x = torch.randn(4, 3)
        assert_same(norm(x), 0.1 * x, "output", 1e-5)

    def test_population_statistics_in_training(self) -> None:
        norm = BatchNorm(3, frozen=True, dtype=DOUBLE)
        x = torch.randn(50, 3, dtype=DOUBLE) * 3 + 2
        rnnnorm.recalibrate(norm, [x])
        with rnnnorm.statistics(norm, "population"):
            assert_same(norm(x).mean(0), torch.zeros(3, dtype=DOUBLE), "mean", 1e-12)
        with rnnnorm.statistics(norm, "batch"):
            assert_same(norm(x[:9]).mean(0), torch.zeros(3, dtype=DOUBLE), "mean", 1e-12)
        assert norm(x).mean() > 1

    def test_statistics_are_constants_in_backward(self) -> None:
        norm = BatchNorm(3, frozen=True)
        x = torch.randn(4, 3, requires_grad=True)
        norm(x).sum().backward()
        assert_same(x.grad, torch.ones(4, 3), "grad", 1e-4)  # batch statistics would make it 0

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="frozen must be true or false, got 'yes'"):
            Use("bn", {"frozen": "yes"})


class TestAbsoluteDeviation:
    def reference(self, x: np.ndarray, eps: float = 1e-5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mean = x.mean(0)
        s = math.sqrt(math.pi / 2) * np.abs(x - mean).mean(0)
        return (x - mean) / np.sqrt(s**2 + eps), mean, s**2

    def test_several_batches_against_numpy(self) -> None:
        norm = L1BatchNorm(3, statistics="timestep", gain=0.5, dtype=DOUBLE)
        running_mean, running_square = np.zeros(3), np.ones(3)
        for n in (4, 7, 3):
            x = torch.randn(n, 3, dtype=DOUBLE) + n
            y, mean, square = self.reference(x.numpy())
            assert_same(norm(x, 2), torch.from_numpy(0.5 * y), "output", 1e-12)
            running_mean = 0.9 * running_mean + 0.1 * mean
            running_square = 0.9 * running_square + 0.1 * square * n / (n - 1)
        assert_same(norm.stats.running_mean[2], torch.from_numpy(running_mean), "mean", 1e-12)
        assert_same(norm.stats.running_var[2], torch.from_numpy(running_square), "deviation", 1e-12)
        x = torch.randn(2, 3, dtype=DOUBLE)
        expected = 0.5 * (x.numpy() - running_mean) / np.sqrt(running_square + 1e-5)
        assert_same(norm.eval()(x, 2), torch.from_numpy(expected), "evaluation", 1e-12)

    def test_gaussian_rows_look_as_after_batch_normalization(self) -> None:
        x = torch.randn(20000, 2) * 4
        assert_same(L1BatchNorm(2)(x), BatchNorm(2)(x), "output", 0.1)

    def test_population_statistics_pool_batches(self) -> None:
        norm = L1BatchNorm(2, dtype=DOUBLE)
        x = torch.randn(4000, 2, dtype=DOUBLE) * 2 + 7
        rnnnorm.recalibrate(norm, x.split(500))
        assert_same(norm.stats.population_mean[0], x.mean(0), "mean", 1e-10)
        assert_same(norm.stats.population_var[0], x.var(0), "deviation", 0.3)

    def test_in_an_lstm(self) -> None:
        use = "bn-l1:statistics=timestep:gain=0.1"
        lstm = rnnnorm.LSTM(INPUT, H, norm=rnnnorm.Norm(input=use, hidden=use, cell=use))
        plain = rnnnorm.LSTM(INPUT, H, norm="bn-timestep")
        plain.load_state_dict(copy.deepcopy(lstm.state_dict()))
        x: Tensor = padded()
        assert not torch.allclose(lstm(x)[0], plain(x)[0])
