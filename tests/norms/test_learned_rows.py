"""Normalizers by row whose gain is computed, missing, or one learned number, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import erf
from support import assert_same

import rnnnorm
from rnnnorm.norms.adanorm import AdaNorm
from rnnnorm.norms.dyt import DynamicErf
from rnnnorm.norms.layer import LayerNorm
from rnnnorm.norms.zipformer import BasicNorm, BiasNorm

F = 6
DOUBLE = torch.float64


def rows() -> torch.Tensor:
    return 3 * torch.randn(4, F, dtype=DOUBLE) + 1


def standardized(x: np.ndarray) -> np.ndarray:
    return np.asarray((x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5))


def test_simple_layer_norm_learns_nothing() -> None:
    norm, x = LayerNorm(F, affine=False, gain=0.5, bias=True, dtype=DOUBLE), rows()
    assert_same(norm(x), torch.from_numpy(0.5 * standardized(x.numpy())), "y", 1e-12)
    assert not [*norm.parameters()]
    assert not norm.state_dict()
    assert norm.stored_values() == 0
    learned = {name for name, _ in rnnnorm.LSTM(3, 4, norm="ln-simple").named_parameters()}
    assert learned == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0"}


def test_simple_layer_norm_runs_in_the_compiled_scan() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 3, 2, dtype=DOUBLE)
    lstm = rnnnorm.LSTM(2, 4, norm="ln-simple", dtype=DOUBLE)
    slow = rnnnorm.LSTM(2, 4, norm="ln-simple", dtype=DOUBLE, backend="reference")
    slow.load_state_dict(lstm.state_dict())
    for module in (lstm, slow):
        module(x)[0].square().sum().backward()
    assert_same(lstm(x)[0], slow(x)[0], "h", 1e-12)
    for ours, theirs in zip(lstm.parameters(), slow.parameters(), strict=True):
        assert_same(ours.grad, theirs.grad, "gradient", 1e-10)


def test_adanorm_takes_its_factor_for_a_constant() -> None:
    norm, x = AdaNorm(F, k=0.2, gain=2.0, dtype=DOUBLE), rows().requires_grad_()
    y = standardized(x.detach().numpy())
    factor = 2 * (1 - 0.2 * y)
    assert_same(norm(x), torch.from_numpy(factor * y), "y", 1e-12)
    weight = torch.randn(4, F, dtype=DOUBLE)
    (grad,) = torch.autograd.grad((norm(x) * weight).sum(), x)
    plain = LayerNorm(F, affine=False, dtype=DOUBLE)(x)
    (expected,) = torch.autograd.grad((plain * weight * torch.from_numpy(factor)).sum(), x)
    assert_same(grad, expected, "gradient", 1e-12)
    assert not [*norm.parameters()]


def test_basicnorm_leaves_short_rows_short() -> None:
    norm, x = BasicNorm(F, eps=0.25, dtype=DOUBLE), rows()
    mean_square = np.square(x.numpy()).mean(1, keepdims=True)
    assert_same(norm(x), torch.from_numpy(x.numpy() / np.sqrt(mean_square + 0.25)), "y", 1e-12)
    assert_same(norm(1e-6 * x), 2e-6 * x, "short rows", 1e-6)
    assert [name for name, _ in norm.named_parameters()] == ["log_eps"]


def test_biasnorm_measures_the_distance_from_a_vector() -> None:
    norm, x = BiasNorm(F, gain=0.5, dtype=DOUBLE), rows()
    torch.nn.init.normal_(norm.offset)
    length = np.square(x.numpy() - norm.offset.detach().numpy()).mean(1, keepdims=True)
    assert_same(norm(x), torch.from_numpy(0.5 * x.numpy() / np.sqrt(length + 1e-5)), "y", 1e-12)
    assert norm(torch.zeros(2, F, dtype=DOUBLE)).eq(0).all()
    norm.reset_parameters()
    assert norm.offset.eq(0).all()
    assert norm.log_scale.exp().item() == pytest.approx(0.5)


def test_derf_is_the_error_function_with_a_shift() -> None:
    norm, x = DynamicErf(F, alpha=0.8, bias=True, dtype=DOUBLE), rows()
    torch.nn.init.constant_(norm.shift, 0.3)
    assert_same(norm(x), torch.from_numpy(erf(0.8 * x.numpy() + 0.3)), "y", 1e-12)
    norm.reset_parameters()
    assert norm.shift.item() == 0
    assert norm.alpha.item() == 0.8


@pytest.mark.parametrize(("cls", "option"), [(BasicNorm, "eps"), (BiasNorm, "gain"), (DynamicErf, "alpha")])
def test_options_outside_their_range_are_refused(cls: type, option: str) -> None:
    with pytest.raises(ValueError, match=option):
        cls(F, **{option: 0.0})
