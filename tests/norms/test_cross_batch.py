"""Both senses of Cross mini-Batch Normalization against independent versions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import HIDDEN, INPUT, LENGTHS, assert_same, padded
from torch import Tensor, nn

import rnnnorm
from rnnnorm.norms import BatchNorm
from rnnnorm.norms.cross_batch import AccumulatedBatchNorm, CrossBatchNorm

DOUBLE, F = torch.float64, 3


def batch(n: int = 6, shift: float = 0.0) -> Tensor:
    return torch.randn(n, F, dtype=DOUBLE) * 2 + shift


class TestExponential:
    def test_several_batches_against_numpy(self) -> None:
        norm = CrossBatchNorm(F, statistics="timestep", momentum=0.2, gain=0.5, dtype=DOUBLE)
        mu = var = None
        for k in range(4):
            x = batch(4 + k, shift=k)
            a = x.numpy()
            mu = a.mean(0) if mu is None else 0.8 * mu + 0.2 * a.mean(0)
            var = a.var(0) if var is None else 0.8 * var + 0.2 * a.var(0)
            assert_same(norm(x, 3), torch.from_numpy(0.5 * (a - mu) / np.sqrt(var + 1e-5)), f"batch {k}", 1e-12)
        assert norm.stats.num_rows[3] == 4 + 5 + 6 + 7
        x = batch()
        expected = 0.5 * (x.numpy() - mu) / np.sqrt(var + 1e-5)
        assert_same(norm.eval()(x, 3), torch.from_numpy(expected), "evaluation", 1e-12)

    def test_the_gradient_flows_through_the_share_of_the_current_batch(self) -> None:
        norm = CrossBatchNorm(F, momentum=0.25, eps=1e-12, dtype=DOUBLE)
        norm(batch(shift=1))
        old_mean, old_var = norm.stats.running_mean[0].clone(), norm.stats.running_var[0].clone()
        x = batch().requires_grad_()
        v = torch.randn(6, F, dtype=DOUBLE)
        (norm(x) * v).sum().backward()
        # by hand: y = (x - μ) σ⁻¹, dμ = ¼ mean(dx), dσ² = ¼ · 2 mean((x - μ_B) dx)
        a = x.detach()
        mu, var = 0.75 * old_mean + 0.25 * a.mean(0), 0.75 * old_var + 0.25 * a.var(0, unbiased=False)
        centred = a - a.mean(0)
        expected = v / var.sqrt() - 0.25 * (v / var.sqrt()).mean(0)
        expected = expected - 0.25 * centred / 6 * (v * (a - mu)).sum(0) / var**1.5
        assert_same(x.grad, expected, "grad", 1e-10)

    def test_the_copied_example_fails_where_this_does_not(self) -> None:
        """Kept with their graph, the averages lead the second backward pass into the first, which is gone."""

        class Copied(nn.Module):
            mean: Tensor | float = 0.0

            def forward(self, x: Tensor) -> Tensor:
                self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
                return x - self.mean

        W = torch.randn(F, F, dtype=DOUBLE, requires_grad=True)
        copied, ours = Copied(), CrossBatchNorm(F, dtype=DOUBLE)
        copied((batch() @ W).square()).sum().backward()
        with pytest.raises(RuntimeError, match="second time"):
            copied((batch() @ W).square()).sum().backward()
        for _ in range(3):
            ours((batch() @ W).square()).square().sum().backward()

    def test_training_an_lstm(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, HIDDEN, 2, bidirectional=True, norm="cmbn")
        optimizer = torch.optim.Adam(lstm.parameters(), 0.01)
        for _ in range(3):
            optimizer.zero_grad()
            lstm(padded(), lengths=LENGTHS)[0].square().sum().backward()
            optimizer.step()
        assert all(p.isfinite().all() for p in lstm.parameters())

    def test_training_and_evaluation_meet(self) -> None:
        norm = CrossBatchNorm(F, dtype=DOUBLE)
        for _ in range(300):
            norm(batch(64, shift=4))
        x = batch(64, shift=4)
        expected = norm.eval()(x)
        assert_same(norm.train()(x), expected, "output", 0.1)
        assert (BatchNorm(F, dtype=DOUBLE)(x + 3) - norm.eval()(x + 3)).abs().max() > 1  # a shifted batch stays shifted


class TestAccumulated:
    @pytest.mark.parametrize("statistics", ["sequence", "timestep"])
    def test_mini_batches_against_numpy(self, statistics: str) -> None:
        norm = AccumulatedBatchNorm(F, accumulate=3, statistics=statistics, dtype=DOUBLE)
        seen: list[np.ndarray] = []
        means = []
        for k in range(7):
            if k % 3 == 0:
                seen = []
            x = batch(4 + k, shift=k)
            seen.append(x.numpy())
            together = np.concatenate(seen)
            expected = (x.numpy() - together.mean(0)) / np.sqrt(together.var(0) + 1e-5)
            assert_same(norm(x), torch.from_numpy(expected), f"mini-batch {k}", 1e-12)
            means.append(x.numpy().mean(0))
        running = np.zeros(F)
        for mean in means:
            running = 0.9 * running + 0.1 * mean
        assert_same(norm.stats.running_mean[0], torch.from_numpy(running), "running mean", 1e-12)

    def test_one_mini_batch_is_batch_normalization(self) -> None:
        options = {"statistics": "timestep", "bias": True, "max_steps": 4, "dtype": DOUBLE}
        one, plain = AccumulatedBatchNorm(F, accumulate=1, **options), BatchNorm(F, **options)
        for t in (0, 1, 0, 1):
            x = batch(shift=t)
            assert_same(one(x, t), plain(x, t), "output", 1e-12)
        for name, value in plain.named_buffers():
            assert_same(one.get_buffer(name), value, name, 1e-12)

    def test_the_last_mini_batch_sees_what_the_whole_batch_would(self) -> None:
        norm = AccumulatedBatchNorm(F, accumulate=4, dtype=DOUBLE)
        x = batch(32, shift=3)
        outputs = [norm(part) for part in x.split(8)]
        assert_same(outputs[-1], BatchNorm(F, dtype=DOUBLE)(x)[-8:], "last part", 1e-12)
        assert not torch.allclose(outputs[0], BatchNorm(F, dtype=DOUBLE)(x)[:8])

    def test_a_mini_batch_is_a_forward_pass_not_a_timestep(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, HIDDEN, norm="cmbn-accumulated:accumulate=2")
        past = lstm.norms("_l0").hidden.accumulated
        rows = []
        for _ in range(4):
            lstm(padded(), lengths=LENGTHS)
            rows.append(past.rows[:8].tolist())
        once = [5, 4, 4, 3, 3, 2, 2, 0]
        assert rows == [once, [2 * n for n in once]] * 2

    def test_beyond_max_steps_a_batch_stands_alone(self) -> None:
        norm = AccumulatedBatchNorm(F, statistics="timestep", max_steps=2, dtype=DOUBLE)
        for _ in range(2):
            x = batch()
            assert_same(norm(x, 5), BatchNorm(F, dtype=DOUBLE)(x), "output", 1e-12)

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="accumulate must be an integer of at least 1, got 0"):
            AccumulatedBatchNorm(F, accumulate=0)
