"""The normalized plain RNN against its equations in NumPy, and its derivatives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from plain import array, layer_norm, randomize, weights
from support import HIDDEN, INPUT, assert_same
from torch.autograd import gradcheck

import rnnnorm
from rnnnorm import Norm

T, B, H = 5, 3, HIDDEN
PHI: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
    "identity": lambda a: a,
}
PLACES = {
    "none": Norm(),
    "both": Norm(input="ln", hidden="ln"),
    "joint": Norm(joint="ln"),
    "all": Norm(input="ln", hidden="ln", joint="ln", output="ln"),
}


@pytest.mark.parametrize("phi", PHI)
@pytest.mark.parametrize("place", PLACES)
def test_layer_norm_written_out(place: str, phi: str) -> None:
    rnn = rnnnorm.RNN(INPUT, H, nonlinearity=phi, norm=PLACES[place], dtype=torch.float64)
    randomize(rnn)
    norms, w = rnn.norms("_l0"), weights(rnn)
    x, h0 = torch.randn(T, B, INPUT, dtype=torch.float64), torch.randn(1, B, H, dtype=torch.float64)
    h = array(h0[0])
    for t in range(T):
        a = layer_norm(array(x[t]) @ w["weight_ih"].T, norms.input) + layer_norm(h @ w["weight_hh"].T, norms.hidden)
        h = layer_norm(PHI[phi](layer_norm(a, norms.joint) + w["bias_ih"] + w.get("bias_hh", 0)), norms.output)
    output, h_n = rnn(x, h0)
    assert_same(output[-1], torch.from_numpy(h), "output", 1e-10)
    assert_same(h_n[0], torch.from_numpy(h), "h_n", 1e-10)


@pytest.mark.parametrize("norm", ["none", "ln", "bn-joint"])
def test_derivatives(norm: str) -> None:
    """Of the linear one; those of tanh are in the contract of normalizers."""
    rnn = rnnnorm.RNN(2, 3, 2, "identity", bidirectional=True, norm=norm, dtype=torch.float64, backend="reference")
    names = [n for n, _ in rnn.named_parameters()]
    values = tuple(p.detach().clone().requires_grad_() for p in rnn.parameters())
    x = torch.randn(4, 5, 2, dtype=torch.float64, requires_grad=True)
    h0 = torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True)

    def function(x: torch.Tensor, h0: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        parameters = dict(zip(names, inputs, strict=True))
        return torch.func.functional_call(rnn, parameters, (x, h0), {"lengths": torch.tensor([2, 4, 1, 4, 3])})

    assert gradcheck(function, (x, h0, *values), atol=1e-5, nondet_tol=1e-9, fast_mode=True)


def test_errors() -> None:
    with pytest.raises(ValueError, match="nonlinearity must be one of tanh, relu, identity, got 'sin'"):
        rnnnorm.RNN(2, 3, nonlinearity="sin")
    with pytest.raises(ValueError, match="'torch' does not cover this RNN"):
        rnnnorm.RNN(2, 3, nonlinearity="identity", backend="torch")
    with pytest.raises(ValueError, match="recurrent_dropout drops what is added to the state, but a RNN replaces"):
        rnnnorm.RNN(2, 3, recurrent_dropout=0.1)
    with pytest.raises(ValueError, match=r"init='chrono' sets the biases of the gates .* a RNN has none"):
        rnnnorm.RNN(2, 3, init="chrono")


def test_torchs_positional_order() -> None:
    ours, theirs = rnnnorm.RNN(2, 3, 2, "relu", False, True), torch.nn.RNN(2, 3, 2, "relu", False, True)
    assert ours.batch_first
    assert not ours.bias
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 5, 2)
    assert torch.allclose(ours(x)[0], theirs(x)[0], atol=1e-6)


def test_a_linear_rnn_is_linear() -> None:
    rnn = rnnnorm.RNN(INPUT, H, nonlinearity="identity", bias=False, dtype=torch.float64)
    x, y = torch.randn(2, T, B, INPUT, dtype=torch.float64)
    assert_same(rnn(2 * x - 3 * y)[0], 2 * rnn(x)[0] - 3 * rnn(y)[0], "superposition", 1e-12)
