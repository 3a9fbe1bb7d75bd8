"""The normalized GRU against its equations in NumPy, and its derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain import array, layer_norm, randomize, sigmoid, weights
from support import HIDDEN, INPUT, assert_same
from torch.autograd import gradcheck, gradgradcheck

import rnnnorm
from rnnnorm import Norm

T, B, H = 5, 3, HIDDEN
PLACES = {
    "input": Norm(input="ln"),
    "hidden": Norm(hidden="ln"),
    "both": Norm(input="ln", hidden="ln"),
    "joint": Norm(joint="ln"),
    "output": Norm(output="ln"),
    "all": Norm(input="ln", hidden="ln", joint="ln", output="ln"),
}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("place", PLACES)
def test_layer_norm_written_out(place: str, bias: bool) -> None:
    gru = rnnnorm.GRU(INPUT, H, bias=bias, norm=PLACES[place], dtype=torch.float64)
    randomize(gru)
    norms, w = gru.norms("_l0"), weights(gru)
    b, b_hn = (w["bias_ih"], w["bias_hn"]) if bias else (np.zeros(3 * H), np.zeros(H))
    x, h0 = torch.randn(T, B, INPUT, dtype=torch.float64), torch.randn(1, B, H, dtype=torch.float64)
    h = array(h0[0])
    for t in range(T):
        gx = layer_norm(array(x[t]) @ w["weight_ih"].T, norms.input)
        gh = layer_norm(h @ w["weight_hh"].T, norms.hidden)
        gates = sigmoid(layer_norm(gx[:, : 2 * H] + gh[:, : 2 * H], norms.joint) + b[: 2 * H])
        r, z = gates[:, :H], gates[:, H:]
        n = np.tanh(layer_norm(gx[:, 2 * H :] + r * (gh[:, 2 * H :] + b_hn), norms.candidate) + b[2 * H :])
        h = layer_norm((1 - z) * n + z * h, norms.output)
    output, h_n = gru(x, h0)
    assert_same(output[-1], torch.from_numpy(h), "output", 1e-10)
    assert_same(h_n[0], torch.from_numpy(h), "h_n", 1e-10)


def test_batch_norm_per_step_written_out() -> None:
    gru = rnnnorm.GRU(INPUT, H, norm="bn-timestep:gain=0.7", dtype=torch.float64)
    w = weights(gru)
    x, h0 = torch.randn(T, B, INPUT, dtype=torch.float64), torch.randn(1, B, H, dtype=torch.float64)
    h = array(h0[0])

    def bn(a: np.ndarray) -> np.ndarray:
        return 0.7 * (a - a.mean(0)) / np.sqrt(a.var(0) + 1e-5)

    for t in range(T):
        gx, gh = bn(array(x[t]) @ w["weight_ih"].T) + w["bias_ih"], bn(h @ w["weight_hh"].T)
        r, z = sigmoid(gx[:, :H] + gh[:, :H]), sigmoid(gx[:, H : 2 * H] + gh[:, H : 2 * H])
        h = (1 - z) * np.tanh(gx[:, 2 * H :] + r * (gh[:, 2 * H :] + w["bias_hn"])) + z * h
    assert_same(gru(x, h0)[0][-1], torch.from_numpy(h), "output", 1e-10)


def test_the_bias_inside_the_reset_product_stays() -> None:
    source = torch.nn.GRU(INPUT, H, 2, bidirectional=True)
    gru = rnnnorm.GRU.from_torch(source, norm="ln")
    assert torch.equal(gru.bias_hn_l1_reverse, source.bias_hh_l1_reverse[2 * H :])
    assert torch.equal(gru.bias_ih_l0[2 * H :], source.bias_ih_l0[2 * H :])
    assert torch.equal(gru.bias_ih_l0[: 2 * H], (source.bias_ih_l0 + source.bias_hh_l0)[: 2 * H])
    assert not hasattr(gru, "bias_hh_l0")


@pytest.mark.parametrize("place", ["hidden", "all"])
def test_derivatives(place: str) -> None:
    """Of places that no preset has; presets are in the contract of normalizers."""
    gru = rnnnorm.GRU(2, 3, bidirectional=True, norm=PLACES[place], dtype=torch.float64, backend="reference")
    randomize(gru)
    names = [n for n, _ in gru.named_parameters()]
    values = tuple(p.detach().clone().requires_grad_() for p in gru.parameters())
    x = torch.randn(4, 5, 2, dtype=torch.float64, requires_grad=True)
    h0 = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)

    def function(x: torch.Tensor, h0: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        parameters = dict(zip(names, inputs, strict=True))
        return torch.func.functional_call(gru, parameters, (x, h0), {"lengths": torch.tensor([2, 4, 1, 4, 3])})

    assert gradcheck(function, (x, h0, *values), atol=1e-5, nondet_tol=1e-9, fast_mode=True)
    assert gradgradcheck(function, (x, h0, *values), atol=1e-4, rtol=1e-3, nondet_tol=1e-7, fast_mode=True)


def test_chrono_biases_span_the_sequence() -> None:
    gru = rnnnorm.GRU(INPUT, 500, init="chrono", max_steps=50)
    total = gru.bias_ih_l0 + gru.bias_hh_l0
    memory = total[500:1000].exp()
    assert 1 <= memory.min() < 5
    assert 45 < memory.max() <= 49
    assert not total[:500].any()
    assert not total[1000:].any()
