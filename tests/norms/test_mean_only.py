"""Mean-only batch normalization, and weight normalization with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import HIDDEN, INPUT, assert_same
from torch import Tensor

import rnnnorm
from rnnnorm.norms import Use, options_of
from rnnnorm.norms.mean_only import MeanOnlyBatchNorm

DOUBLE, F, H = torch.float64, 3, HIDDEN


def test_several_batches_against_numpy() -> None:
    norm = MeanOnlyBatchNorm(F, statistics="timestep", bias=True, dtype=DOUBLE)
    torch.nn.init.normal_(norm.bias)
    b, running = norm.bias.detach().numpy(), np.zeros(F)
    for n in (4, 2, 7):
        x = torch.randn(n, F, dtype=DOUBLE) + n
        assert_same(norm(x, 2), torch.from_numpy(x.numpy() - x.numpy().mean(0) + b), "output", 1e-12)
        running = 0.9 * running + 0.1 * x.numpy().mean(0)
    assert_same(norm.stats.running_mean[2], torch.from_numpy(running), "running mean", 1e-12)
    x = torch.randn(2, F, dtype=DOUBLE)
    assert_same(norm.eval()(x, 2), torch.from_numpy(x.numpy() - running + b), "evaluation", 1e-12)


def test_the_gradient_is_centred() -> None:
    norm = MeanOnlyBatchNorm(F)
    x, v = torch.randn(5, F, requires_grad=True), torch.randn(5, F)
    (norm(x) * v).sum().backward()
    assert_same(x.grad, v - v.mean(0), "grad", 1e-6)


def test_there_is_no_gain_beside_that_of_weight_normalization() -> None:
    assert "gain" not in options_of(MeanOnlyBatchNorm)
    assert not list(MeanOnlyBatchNorm(F).parameters())
    with pytest.raises(ValueError, match="'mobn' has no option 'gain'; it has: statistics"):
        Use("mobn", {"gain": 1.0})


def composed(lstm: rnnnorm.LSTM, name: str) -> Tensor:
    parameters = dict(lstm.named_parameters())
    g, v = (parameters[f"parametrizations.{name}.original{k}"] for k in (0, 1))
    return g * v / v.norm(dim=1, keepdim=True)


def test_wn_mobn_centres_the_sum_of_normalized_products() -> None:
    lstm = rnnnorm.LSTM(INPUT, H, norm="wn-mobn", dtype=DOUBLE)
    for p in lstm.parameters():
        torch.nn.init.normal_(p)
    W_ih, W_hh = composed(lstm, "weight_ih_l0"), composed(lstm, "weight_hh_l0")
    T, B = 4, 5
    running = torch.zeros(T, 4 * H, dtype=DOUBLE)
    for training in (True, True, False):
        lstm.train(training)
        x = torch.randn(T, B, INPUT, dtype=DOUBLE)
        h = c = torch.zeros(B, H, dtype=DOUBLE)
        for t in range(T):
            z = x[t] @ W_ih.T + h @ W_hh.T
            mean = z.mean(0)
            if training:
                running[t] = 0.9 * running[t] + 0.1 * mean.detach()
            i, f, g, o = (z - (mean if training else running[t]) + lstm.bias_ih_l0).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        assert_same(lstm(x)[0][-1], h, "h", 1e-10)
