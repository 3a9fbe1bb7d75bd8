"""Online Normalization against the recursion over samples, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import assert_same, buffers
from torch.autograd import gradcheck

import rnnnorm
from rnnnorm.norms.online import OnlineNorm

DOUBLE = torch.float64
C = 3


def make(features: int = C, **options: object) -> OnlineNorm:
    keys = {"guard": "none", "alpha_forward": 0.9, "alpha_backward": 0.8, "dtype": DOUBLE, **options}
    return OnlineNorm(features, **keys)  # type: ignore[arg-type]


def rows(n: int, features: int = C) -> torch.Tensor:
    return torch.randn(n, features, dtype=DOUBLE) * 2 + 1


class Reference:
    """A few lines of NumPy: n rows as one set of samples; with n = 1 the published recursion."""

    def __init__(self, af: float, ab: float) -> None:
        self.af, self.ab, self.mu, self.var, self.u, self.v = af, ab, 0.0, 1.0, 0.0, 0.0

    def forward(self, x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
        self.s = np.sqrt(self.var + eps)
        self.y = (x - self.mu) / self.s
        a, m = self.af ** len(x), x.mean(0)
        self.var = a * self.var + (1 - a) * x.var(0) + a * (1 - a) * (m - self.mu) ** 2
        self.mu = a * self.mu + (1 - a) * m
        return self.y

    def backward(self, g: np.ndarray) -> np.ndarray:
        w = (1 - self.ab ** len(g)) / (1 - self.ab)
        g = g - (1 - self.ab) * self.v * self.y
        self.v = self.v + w * (g * self.y).mean(0)
        g = g / self.s - (1 - self.ab) * self.u
        self.u = self.u + w * g.mean(0)
        return g


@pytest.mark.parametrize("sizes", [[1] * 6, [4, 4, 4], [5, 3, 1, 2]], ids=["samples", "dense", "ragged"])
def test_forward_and_backward_are_the_recursion(sizes: list[int]) -> None:
    norm, reference = make(), Reference(0.9, 0.8)
    for n in sizes:
        x, g = rows(n).requires_grad_(), rows(n)
        y = norm(x)
        assert_same(y, torch.from_numpy(reference.forward(x.detach().numpy())), "output", 1e-12)
        (dx,) = torch.autograd.grad(y, x, g)
        assert_same(dx, torch.from_numpy(reference.backward(g.numpy())), "gradient", 1e-12)
        assert_same(norm.stats.running_mean[0], torch.from_numpy(reference.mu), "mean", 1e-12)
        assert_same(norm.stats.running_var[0], torch.from_numpy(reference.var), "variance", 1e-12)
        assert_same(norm.control["v"], torch.from_numpy(reference.v), "v", 1e-12)
        assert_same(norm.control["u"], torch.from_numpy(reference.u), "u", 1e-12)


def test_one_sample_is_the_published_update() -> None:
    norm, x = make(), rows(1)
    norm(x)
    assert_same(norm.stats.running_var[0], 0.9 + 0.9 * 0.1 * x[0] ** 2, "variance", 1e-12)
    assert_same(norm.stats.running_mean[0], 0.1 * x[0], "mean", 1e-12)


def test_a_set_of_rows_is_any_order_of_samples_to_first_order() -> None:
    """The statistics differ from those of one sample after the other by second order in 1 - α."""
    x = rows(8)
    errors = []
    for step in (1e-2, 1e-3):
        together, one_by_one = make(alpha_forward=1 - step), make(alpha_forward=1 - step)
        together(x)
        for row in x:
            one_by_one(row.unsqueeze(0))
        for name in ("running_mean", "running_var"):
            errors.append((getattr(together.stats, name) - getattr(one_by_one.stats, name)).abs().max() / step)
    assert max(errors[2:]) < 0.15 * max(errors[:2]) < 0.15


def test_order_of_rows_does_not_matter() -> None:
    x, g = rows(6), rows(6)
    order = torch.randperm(6)
    norms = make(), make()
    for _ in range(2):
        results = []
        for norm, turn in zip(norms, (torch.arange(6), order), strict=True):
            leaf = x[turn].requires_grad_()
            y = norm(leaf)
            results.append((y[turn.argsort()], torch.autograd.grad(y, leaf, g[turn])[0][turn.argsort()]))
        assert_same(results[0][0], results[1][0], "output", 1e-12)
        assert_same(results[0][1], results[1][1], "gradient", 1e-12)


def test_the_control_process_makes_gradients_orthogonal_to_output_and_mean_free() -> None:
    """What the paper demands of the gradient of a normalized feature, in the average over samples."""
    norm = make(alpha_forward=0.999, alpha_backward=0.99)
    products, sums, before = [], [], []
    for _ in range(3000):
        x = rows(1).requires_grad_()
        y = norm(x)
        g = 1 + 0.7 * y.detach() + 0.1 * torch.randn_like(y)
        (dx,) = torch.autograd.grad(y, x, g)
        products.append(dx * y.detach())
        sums.append(dx)
        before.append(g * y.detach())
    late = slice(1000, None)
    assert torch.cat(before)[late].mean(0).min() > 0.5
    assert torch.cat(products)[late].mean(0).abs().max() < 0.1  # up to the mean of y, which is small, not 0
    assert torch.cat(sums)[late].mean(0).abs().max() < 0.02


def test_scaling_divides_by_the_quadratic_mean_of_each_group() -> None:
    x = rows(5, 8)
    plain, scaled = make(8), make(8, guard="scaling", groups=2)
    y = plain(x).view(5, 2, 4)
    expected = y / (y.square().mean(2, keepdim=True) + 1e-5).sqrt()
    assert_same(scaled(x), expected.view(5, 8), "output", 1e-12)


def test_clamp_cuts_off() -> None:
    x = torch.tensor([[9.0, -9.0, 0.5]], dtype=DOUBLE)
    assert_same(make(guard="clamp", clamp=2.0)(x), make()(x).clamp(-2, 2), "output", 1e-12)


def test_groups_of_four_are_a_normalizer_per_gate() -> None:
    keys = {"guard": "scaling", "gain": 0.7}
    together, gates = make(8, groups=4, **keys), [make(2, **keys) for _ in range(4)]
    for n in (3, 2):
        x, g = rows(n, 8).requires_grad_(), rows(n, 8)
        y = together(x)
        (dx,) = torch.autograd.grad(y, x, g)
        parts = [gate(part) for gate, part in zip(gates, x.chunk(4, 1), strict=True)]
        (expected,) = torch.autograd.grad(torch.cat(parts, 1), x, g)
        assert_same(y, torch.cat(parts, 1), "output", 1e-12)
        assert_same(dx, expected, "gradient", 1e-12)


@pytest.mark.parametrize("source", ["running", "batch", "population"])
@pytest.mark.parametrize("guard", ["scaling", "clamp", "none"])
def test_evaluation_is_exact_and_moves_nothing(source: str, guard: str) -> None:
    norm = make(guard=guard, bias=True)
    norm(rows(4))
    rnnnorm.recalibrate(norm, [rows(4), rows(3)])
    norm.eval()
    before = buffers(norm)
    with rnnnorm.statistics(norm, source):
        assert gradcheck(norm, rows(3).requires_grad_())
        x = rows(3)
        y = norm(x)
        norm(x[:1])
    mean, var = norm.stats.running_mean, norm.stats.running_var
    if source == "batch":
        mean, var = x.mean(0), x.var(0, unbiased=False)
    elif source == "population":
        mean, var = norm.stats.population_mean, norm.stats.population_var
    expected = (x - mean) / (var + 1e-5).sqrt()
    if guard == "scaling":
        expected = F.rms_norm(expected, (C,), eps=1e-5)
    assert_same(y, expected, "output", 1e-9)
    assert all(torch.equal(before[name], value) for name, value in buffers(norm).items())


def test_reset_and_half_precision() -> None:
    norm = OnlineNorm(C)
    x = torch.randn(4, C, requires_grad=True)
    norm(x).square().sum().backward()
    assert norm.control["v"].any()
    norm.to(torch.bfloat16)
    assert norm.control["v"].dtype == torch.float32
    norm(x.bfloat16()).sum().backward()
    norm.reset_parameters()
    assert not norm.control["v"].any()
    assert not norm.control["u"].any()
