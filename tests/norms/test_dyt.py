"""Dynamic tanh against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import INPUT, assert_same

import rnnnorm
from rnnnorm.norms.dyt import DynamicTanh

F = 6
DOUBLE = torch.float64


@pytest.mark.parametrize("bias", [False, True])
def test_equation(bias: bool) -> None:
    norm, x = DynamicTanh(F, alpha=0.8, bias=bias, dtype=DOUBLE), 3 * torch.randn(4, F, dtype=DOUBLE)
    torch.nn.init.uniform_(norm.gain, 0.5, 1.5)
    expected = norm.gain.detach().numpy() * np.tanh(0.8 * x.numpy())
    if bias:
        torch.nn.init.uniform_(norm.bias, 0.5, 1.5)
        expected = expected + norm.bias.detach().numpy()
    assert_same(norm(x, 2), torch.from_numpy(expected), "y", 1e-12)
    assert_same(norm.sequence(x, [3, 1]), norm(x), "packed rows", 0)


def test_defaults_and_reset() -> None:
    norm = DynamicTanh(F, bias=True)
    assert norm.alpha.tolist() == [0.5]
    assert norm.gain.tolist() == [1.0] * F
    assert norm.bias.tolist() == [0.0] * F
    for p in norm.parameters():
        torch.nn.init.uniform_(p, 2, 3)
    norm.reset_parameters()
    assert norm.alpha.tolist() == [0.5]
    assert norm.gain.tolist() == [1.0] * F


def test_bounded_whatever_comes_in() -> None:
    y = DynamicTanh(F, gain=0.3)(1e6 * torch.randn(50, F))
    assert y.abs().max().item() == pytest.approx(0.3)


def test_preset_and_overrides() -> None:
    norms = rnnnorm.LSTM(INPUT, F, norm="dyt:alpha=0.25:cell.gain=2.0").norms("_l0")
    assert [getattr(norms, p).alpha.item() for p in ("input", "hidden", "cell")] == [0.25] * 3
    assert [getattr(norms, p).bias is None for p in ("input", "hidden", "cell")] == [True, True, False]
    assert norms.cell.gain.unique().item() == 2.0
