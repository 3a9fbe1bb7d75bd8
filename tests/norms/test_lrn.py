"""Local response normalization against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import INPUT, assert_same

import rnnnorm
from rnnnorm.norms.lrn import LocalResponseNorm

F = 7
DOUBLE = torch.float64


def expected(x: np.ndarray, size: int, alpha: float, beta: float, k: float) -> np.ndarray:
    """The paper's sum, unit by unit; an even window has one unit more on the left."""
    y = np.empty_like(x)
    for i in range(x.shape[1]):
        window = x[:, max(0, i - size // 2) : i + (size - 1) // 2 + 1]
        y[:, i] = x[:, i] / (k + alpha * (window**2).sum(1)) ** beta
    return y


@pytest.mark.parametrize("size", [1, 3, 4, 5, 20])
def test_equation(size: int) -> None:
    options = {"size": size, "alpha": 0.8, "beta": 0.6, "k": 1.5}
    norm, x = LocalResponseNorm(F, gain=0.7, dtype=DOUBLE, **options), torch.randn(4, F, dtype=DOUBLE)
    assert_same(norm(x, 5), torch.from_numpy(0.7 * expected(x.numpy(), **options)), "y", 1e-12)
    assert_same(norm.sequence(x, [2, 1, 1]), norm(x), "packed rows", 0)


def test_defaults_are_alexnets() -> None:
    x = torch.randn(4, F, dtype=DOUBLE)
    y = LocalResponseNorm(F, dtype=DOUBLE)(x)
    assert_same(y, torch.from_numpy(expected(x.numpy(), 5, 1e-4, 0.75, 2.0)), "y", 1e-12)
    assert_same(y, x / 2**0.75, "a scaling, almost", 1e-3)


def test_only_neighbours_inhibit() -> None:
    norm = LocalResponseNorm(F, size=3, alpha=1.0)
    x = torch.ones(1, F)
    louder = x.clone()
    louder[0, 2] = 10
    changed = (norm(louder) - norm(x)).abs()[0] > 1e-6
    assert changed.tolist() == [False, True, True, True, False, False, False]
    assert norm(louder)[0, 1] < norm(x)[0, 1]


def test_half_precision() -> None:
    y = LocalResponseNorm(F, alpha=1.0)(torch.full((2, F), 1e3, dtype=torch.float16))  # its square is beyond float16
    assert y.dtype == torch.float16
    assert (y > 0).all()


def test_preset_stands_at_the_output() -> None:
    lstm = rnnnorm.LSTM(INPUT, F, norm="lrn:alpha=1:k=1", dtype=DOUBLE)
    plain = rnnnorm.LSTM(INPUT, F, dtype=DOUBLE)
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
        plain.assign(name, getattr(lstm, name).detach())
    torch.nn.init.zeros_(plain.bias_hh_l0)
    x = torch.randn(1, 3, INPUT, dtype=DOUBLE)
    h = plain(x)[0][0].detach().numpy()
    assert_same(lstm(x)[0][0], torch.from_numpy(expected(h, 5, 1.0, 0.75, 1.0)), "h", 1e-12)
    assert list(lstm.norm.places) == ["output"]
    assert lstm.norms("_l0").output.bias is None
