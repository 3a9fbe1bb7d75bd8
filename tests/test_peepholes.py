"""The LSTM with peepholes (Gers & Schmidhuber 2000) against its equations in NumPy."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from plain import array, layer_norm, randomize, sigmoid, weights
from support import HIDDEN, INPUT, LENGTHS, PRESETS, assert_same, padded
from torch.autograd import gradcheck

import rnnnorm
from rnnnorm import Norm

T, B, H = 5, 3, HIDDEN
NORMS = {
    "none": Norm(),
    "ln": Norm(input="ln", hidden="ln", cell="ln"),
    "joint": Norm(joint="ln", cell="ln"),
    "carried": Norm(input="ln", cell="ln", carried=True),
}


@pytest.mark.parametrize("norm", NORMS)
def test_written_out(norm: str) -> None:
    lstm = rnnnorm.LSTM(INPUT, H, norm=NORMS[norm], peepholes=True, dtype=torch.float64)
    randomize(lstm)
    norms, w = lstm.norms("_l0"), weights(lstm)
    x = torch.randn(T, B, INPUT, dtype=torch.float64)
    h0, c0 = torch.randn(2, 1, B, H, dtype=torch.float64)
    h, c = array(h0[0]), array(c0[0])
    for t in range(T):
        a = layer_norm(array(x[t]) @ w["weight_ih"].T, norms.input) + layer_norm(h @ w["weight_hh"].T, norms.hidden)
        a = layer_norm(a, norms.joint) + w["bias_ih"] + w.get("bias_hh", 0)
        i, f, g, o = np.split(a, 4, axis=1)
        c = sigmoid(f + w["weight_cf"] * c) * c + sigmoid(i + w["weight_ci"] * c) * np.tanh(g)
        seen = layer_norm(c, norms.cell)
        c = seen if norm == "carried" else c
        h = sigmoid(o + w["weight_co"] * c) * np.tanh(seen)
    output, (h_n, c_n) = lstm(x, (h0, c0))
    assert_same(output[-1], torch.from_numpy(h), "output", 1e-10)
    assert_same(h_n[0], torch.from_numpy(h), "h_n", 1e-10)
    assert_same(c_n[0], torch.from_numpy(c), "c_n", 1e-10)


@pytest.mark.parametrize("norm", PRESETS)
def test_with_every_preset(norm: str) -> None:
    lstm = rnnnorm.LSTM(INPUT, 8, 2, bidirectional=True, norm=norm, peepholes=True)
    lstm(padded(), lengths=LENGTHS)[0].square().sum().backward()
    assert lstm.weight_ci_l0.shape == (8,)
    for name in ("weight_ci_l1_reverse", "weight_cf_l0", "weight_co_l1"):
        assert getattr(lstm, name).grad.any(), name
    lstm.eval()
    x = padded()
    for other in (copy.deepcopy(lstm), pickle.loads(pickle.dumps(lstm))):
        assert torch.equal(other(x)[0], lstm(x)[0])


def test_zero_peepholes_are_a_plain_lstm() -> None:
    plain, lstm = rnnnorm.LSTM(INPUT, H, 2), rnnnorm.LSTM(INPUT, H, 2, peepholes=True)
    missing, unexpected = lstm.load_state_dict(plain.state_dict(), strict=False)
    assert sorted(missing) == sorted(f"weight_{n}_l{k}" for n in ("ci", "cf", "co") for k in (0, 1))
    assert not unexpected
    for name in missing:
        torch.nn.init.zeros_(getattr(lstm, name))
    x = padded()
    assert torch.allclose(lstm(x)[0], plain(x)[0], atol=1e-6)


def test_initial_values() -> None:
    drawn = rnnnorm.LSTM(INPUT, H, peepholes=True).weight_ci_l0
    assert 0 < drawn.abs().max() <= H**-0.5
    assert not rnnnorm.LSTM(INPUT, H, peepholes=True, init="orthogonal").weight_ci_l0.any()


def test_no_backend_of_torch() -> None:
    with pytest.raises(ValueError, match="'torch' does not cover this LSTM with its normalizers and options"):
        rnnnorm.LSTM(2, 3, peepholes=True, backend="torch")


def test_derivatives() -> None:
    lstm = rnnnorm.LSTM(2, 3, 2, proj_size=2, peepholes=True, dtype=torch.float64)
    values = tuple(p.detach().clone().requires_grad_() for p in lstm.parameters())
    names = [n for n, _ in lstm.named_parameters()]
    x = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)

    def function(x: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        parameters = dict(zip(names, inputs, strict=True))
        return torch.func.functional_call(lstm, parameters, (x,), {"lengths": torch.tensor([2, 4, 3])})[0]

    assert gradcheck(function, (x, *values), atol=1e-5, nondet_tol=1e-9)
