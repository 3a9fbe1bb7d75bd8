"""RMSNorm against NumPy, and what it is invariant to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import INPUT, assert_same

import rnnnorm
from rnnnorm.norms.rms import RMSNorm

F = 6
DOUBLE = torch.float64


def made(**options: object) -> RMSNorm:
    norm = RMSNorm(F, dtype=DOUBLE, **options)  # type: ignore[arg-type]
    torch.nn.init.uniform_(norm.gain, 0.5, 1.5)
    return norm


@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_equation(eps: float) -> None:
    norm, x = made(eps=eps), torch.randn(5, F, dtype=DOUBLE)
    a, g = x.numpy(), norm.gain.detach().numpy()
    expected = g * a / np.sqrt(np.mean(a**2, axis=1, keepdims=True) + eps)
    assert_same(norm(x, 3), torch.from_numpy(expected), "y", 1e-12)
    assert_same(norm.sequence(x, [2, 2, 1]), norm(x), "packed rows", 0)


def test_scaling_a_row_changes_nothing_and_shifting_it_does() -> None:
    norm, x = made(eps=1e-12), torch.randn(4, F, dtype=DOUBLE)
    assert_same(norm(1e3 * x), norm(x), "scaled", 1e-9)
    assert not torch.allclose(norm(x + 1), norm(x))


def test_a_row_of_zeros_and_large_16_bit_rows_are_finite() -> None:
    norm = RMSNorm(F)
    assert torch.equal(norm(torch.zeros(1, F)), torch.zeros(1, F))
    large = norm(torch.full((1, F), 3e4, dtype=torch.float16))  # its square is beyond float16
    assert large.dtype == torch.float16
    assert_same(large, torch.ones(1, F, dtype=torch.float16), "large", 1e-3)


def test_no_bias_anywhere() -> None:
    lstm = rnnnorm.LSTM(INPUT, F, norm="rms")
    assert all(getattr(lstm.norms("_l0"), place).bias is None for place in ("input", "hidden", "cell"))
    with pytest.raises(ValueError, match="'rms' has no option 'bias'; it has: eps, gain"):
        rnnnorm.Norm(cell="rms:bias=true")


def test_preset_takes_a_gain() -> None:
    norms = rnnnorm.LSTM(INPUT, F, norm="rms:gain=0.1").norms("_l0")
    assert norms.hidden.gain.unique().item() == pytest.approx(0.1)
    assert norms.input.num_features == norms.hidden.num_features == 4 * F
