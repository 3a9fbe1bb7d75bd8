"""PowerNorm against its equations, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import assert_same, buffers
from torch.autograd import gradcheck

import rnnnorm
from rnnnorm.norms.power import PowerNorm

DOUBLE = torch.float64
C = 4


def make(**options: object) -> PowerNorm:
    keys = {"groups": 0, "warmup": 2, "dtype": DOUBLE, **options}
    return PowerNorm(C, **keys)  # type: ignore[arg-type]


def rows(n: int = 5) -> torch.Tensor:
    return torch.randn(n, C, dtype=DOUBLE) * 2 + 1


class Reference:
    """A few lines of NumPy."""

    def __init__(self, af: float, ab: float, warmup: int) -> None:
        self.af, self.ab, self.warmup, self.phi, self.nu, self.k = af, ab, warmup, np.ones(C), np.zeros(C), 0

    def forward(self, x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
        own = (x**2).mean(0)
        self.k += 1
        self.s = np.sqrt((own if self.k <= self.warmup else self.phi) + eps)
        self.phi = self.phi + max(1 - self.af, 1 / self.k) * (own - self.phi)
        self.z = x / self.s
        return self.z

    def backward(self, g: np.ndarray) -> np.ndarray:
        g = g - self.nu * self.z
        self.nu = self.nu + (1 - self.ab) * (g * self.z).mean(0)
        return g / self.s


@pytest.mark.parametrize("warmup", [0, 2])
def test_training_is_the_published_recursion(warmup: int) -> None:
    keys = {"alpha_forward": 0.7, "alpha_backward": 0.6}
    norm, reference = make(warmup=warmup, **keys), Reference(0.7, 0.6, warmup)
    for n in (5, 4, 6, 2, 5, 3):
        x, g = rows(n).requires_grad_(), rows(n)
        y = norm(x)
        assert_same(y, torch.from_numpy(reference.forward(x.detach().numpy())), "output", 1e-12)
        (dx,) = torch.autograd.grad(y, x, g)
        assert_same(dx, torch.from_numpy(reference.backward(g.numpy())), "gradient", 1e-12)
        assert_same(norm.stats.running_var[0], torch.from_numpy(reference.phi), "φ", 1e-12)
        assert_same(norm.control["nu"][0], torch.from_numpy(reference.nu), "ν", 1e-12)


def test_rows_are_scaled_first() -> None:
    x = rows()
    scaled = F.rms_norm(x, (C,), eps=1e-5)
    assert_same(make(groups=1)(x), make()(scaled), "one group", 1e-12)
    halves = F.rms_norm(x.view(5, 2, 2), (2,), eps=1e-5).view(5, C)
    assert_same(make(groups=2)(x), make()(halves), "two groups", 1e-12)


def test_after_the_warmup_training_and_evaluation_are_one_function() -> None:
    norm = make(warmup=1)
    x = rows()
    norm(rows())
    norm.eval()
    expected = norm(x)
    norm.train()
    assert torch.equal(norm(x), expected)


def test_the_approximate_gradient_becomes_orthogonal_to_the_output() -> None:
    norm = make(alpha_backward=0.9)
    late = []
    for k in range(400):
        x = rows(16).requires_grad_()
        z = norm(x)
        (dx,) = torch.autograd.grad(z, x, 1 + z.detach())
        if k >= 100:
            late.append((dx * z.detach()).mean(0))
    assert torch.stack(late).mean(0).abs().max() < 0.02


def test_warmup_counts_batches_and_not_steps() -> None:
    norm = make(warmup=1)
    for _ in range(2):
        norm.sequence(rows(12), [5, 4, 3])
    assert int(norm.batches) == 2
    assert norm.updates.tolist() == [6]


def test_statistics_per_step_and_over_all_rows() -> None:
    x = rows(12)
    sizes = [5, 4, 3]
    steps, whole = make(statistics="timestep", max_steps=3), make(statistics="sequence")
    steps.sequence(x, sizes)
    assert_same(steps.stats.running_var, torch.stack([p.square().mean(0) for p in x.split(sizes)]), "φ per step", 1e-12)
    y = whole.sequence(x, sizes)
    assert_same(y, x / (x.square().mean(0) + 1e-5).sqrt(), "all rows", 1e-12)
    leaf = rows().requires_grad_()
    steps(leaf, 1).sum().backward()
    assert steps.control["nu"][1].any()
    assert not steps.control["nu"][[0, 2]].any()


def test_few_rows_use_what_is_stored_and_move_nothing() -> None:
    norm = make(warmup=0)
    norm(rows())
    before = buffers(norm)
    x = rows(1).requires_grad_()
    y = norm(x)
    assert_same(y, x / (before["stats.running_var"] + 1e-5).sqrt(), "one row", 1e-12)
    y.sum().backward()
    changed = [name for name, value in buffers(norm).items() if not torch.equal(value, before[name])]
    assert changed == ["batches"]
    assert_same(make()(x), x / (1 + 1e-5) ** 0.5, "one row before any training", 1e-12)


@pytest.mark.parametrize("source", ["running", "batch", "population"])
def test_evaluation_is_exact_and_moves_nothing(source: str) -> None:
    norm = make(bias=True, gain=0.5)
    norm(rows())
    data = rows(40)
    rnnnorm.recalibrate(norm, data.split(8))
    norm.eval()
    before = buffers(norm)
    x = rows()
    with rnnnorm.statistics(norm, source):
        assert gradcheck(norm, rows(3).requires_grad_())
        y = norm(x)
    power = {"running": norm.stats.running_var[0], "batch": x.square().mean(0), "population": data.square().mean(0)}
    # the population's variance is the unbiased one
    tolerance = 0.05 if source == "population" else 1e-12
    assert_same(y, 0.5 * x / (power[source] + 1e-5).sqrt(), "output", tolerance)
    assert all(torch.equal(before[name], value) for name, value in buffers(norm).items())


def test_reset() -> None:
    norm = make()
    norm(rows().requires_grad_()).sum().backward()
    norm.reset_parameters()
    assert not norm.control["nu"].any()
    assert int(norm.batches) == int(norm.updates) == 0


def test_sequence_statistics_stand_at_vertical_places_only() -> None:
    with pytest.raises(ValueError, match="cannot stand at hidden"):
        rnnnorm.Norm(hidden="power:statistics=sequence")
