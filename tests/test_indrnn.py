"""The independently recurrent network against its equations in NumPy, its limit, and what it makes of normalizers."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from norms.contract import NormalizerContract
from plain import array, layer_norm, randomize, weights
from support import HIDDEN, INPUT, LENGTHS, assert_compiled_and_traced_as_eagerly, assert_same, padded
from torch import nn

import rnnnorm
from rnnnorm import Norm
from rnnnorm.probes.spectral_bound import spectral_norms
from rnnnorm.tasks.cells import build_recurrent

T, B, H, DOUBLE = 5, 3, HIDDEN, torch.float64
PHI = {"relu": lambda a: np.maximum(a, 0), "tanh": np.tanh, "identity": lambda a: a}


class TestContract(NormalizerContract):
    """Normalizers before and after the recurrent sum; the vector u has no matrix to be normalized."""

    cells: ClassVar = [rnnnorm.IndRNN]
    norms: ClassVar = ["none", "bn-vertical", "bn-timestep", "ln", "bn-joint", "wn", "cbn"]


@pytest.mark.parametrize("nonlinearity", PHI)
@pytest.mark.parametrize("places", [(), ("input",), ("hidden",), ("joint",), ("input", "hidden", "output")])
def test_written_out(places: tuple[str, ...], nonlinearity: str) -> None:
    norm = Norm(**dict.fromkeys(places, "ln")) if places else Norm()
    rnn = rnnnorm.IndRNN(INPUT, H, nonlinearity=nonlinearity, norm=norm, bound=None, dtype=DOUBLE)
    randomize(rnn)
    norms, w = rnn.norms("_l0"), weights(rnn)
    assert w["weight_hh"].shape == (H,)
    b = w["bias_ih"] + w.get("bias_hh", 0)
    x, h0 = torch.randn(T, B, INPUT, dtype=DOUBLE), torch.randn(1, B, H, dtype=DOUBLE)
    h = array(h0[0])
    for x_t in x:
        gx, gh = layer_norm(array(x_t) @ w["weight_ih"].T, norms.input), layer_norm(w["weight_hh"] * h, norms.hidden)
        h = layer_norm(PHI[nonlinearity](layer_norm(gx + gh, norms.joint) + b), norms.output)
    output, h_n = rnn(x, h0)
    assert_same(output[-1], torch.from_numpy(h), "output", 1e-10)
    assert_same(h_n[0], output[-1], "h_n", 1e-12)


def test_units_do_not_see_each_other() -> None:
    rnn = rnnnorm.IndRNN(INPUT, H, dtype=DOUBLE)
    x, h0 = torch.randn(T, 1, INPUT, dtype=DOUBLE), torch.rand(1, 1, H, dtype=DOUBLE, requires_grad=True)
    with torch.no_grad():
        rnn.bias_ih_l0.fill_(9.0)  # all units are on
    (grad,) = torch.autograd.grad(rnn(x, h0)[0][-1, 0, 2], h0)
    assert grad[0, 0].nonzero().flatten().tolist() == [2]
    assert_same(grad[0, 0, 2], rnn.weight_hh_l0[2] ** T, "gradient", 1e-12)


class TestLimit:
    """|u| ≤ γ^(1/T_max), so that a gradient over T_max steps grows by a factor of γ at most."""

    def test_a_weight_beyond_it_counts_as_the_limit(self) -> None:
        rnn = rnnnorm.IndRNN(1, 1, nonlinearity="identity", bias=False, bound=3.0, max_steps=T, dtype=DOUBLE)
        with torch.no_grad():
            rnn.weight_hh_l0.fill_(50.0)
        h0 = torch.ones(1, 1, 1, dtype=DOUBLE)
        last = [rnn(torch.zeros(T, 1, 1, dtype=DOUBLE), h0 * sign)[1].item() for sign in (1, -1)]
        assert last == pytest.approx([3.0, -3.0])

    @pytest.mark.parametrize("start", [5.0, -5.0])
    def test_descent_can_leave_it_inwards_only(self, start: float) -> None:
        rnn = rnnnorm.IndRNN(1, 1, nonlinearity="identity", dtype=DOUBLE)
        h0 = torch.ones(1, 1, 1, dtype=DOUBLE)
        grads = []
        for sign in (1.0, -1.0):  # descent wants a larger, then a smaller h
            with torch.no_grad():
                rnn.weight_hh_l0.fill_(start)
            rnn.zero_grad()
            (-sign * rnn(torch.zeros(1, 1, 1, dtype=DOUBLE), h0)[1].sum()).backward()
            assert rnn.weight_hh_l0.grad is not None
            grads.append(rnn.weight_hh_l0.grad.item())
        assert grads == ([0.0, 1.0] if start > 0 else [-1.0, 0.0])

    def test_none_and_a_function_transform(self) -> None:
        free, bound = (rnnnorm.IndRNN(INPUT, H, bound=b, dtype=DOUBLE) for b in (None, 2.0))
        assert free.cell.limit is None
        assert bound.cell.limit == pytest.approx(2 ** (1 / 100))
        bound.load_state_dict(free.state_dict())
        x = padded(dtype=DOUBLE)
        assert torch.equal(bound(x)[0], free(x)[0])
        with torch.no_grad():
            bound.weight_hh_l0.fill_(9.0)
        parameters = dict(bound.named_parameters())
        transformed = torch.func.vmap(lambda x: torch.func.functional_call(bound, parameters, (x,))[0], in_dims=1)
        assert_same(transformed(x).transpose(0, 1), bound(x)[0], "output", 1e-12)

    @pytest.mark.parametrize(("options", "said"), [({"bound": 0.0}, "bound"), ({"max_steps": 0}, "max_steps")])
    def test_values_outside_their_range(self, options: dict[str, float], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            rnnnorm.IndRNN(2, 3, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("init", ["torch", "orthogonal"])
def test_recurrent_weights_start_between_0_and_1(init: str) -> None:
    u = rnnnorm.IndRNN(3, 1000, init=init).weight_hh_l0
    assert 0 <= u.min() < 0.05
    assert 0.95 < u.max() <= 1
    assert abs(u.mean() - 0.5) < 0.05


@pytest.mark.parametrize("norm", ["wn", "wn-mobn", "cbn", "hidden=wn"])
def test_normalizers_of_a_matrix_are_refused(norm: str) -> None:
    with pytest.raises(ValueError, match=r"at hidden works on the matrix W_hh, but that of an IndRNN is a vector"):
        rnnnorm.IndRNN(2, 3, norm=norm)


def test_a_matrix_in_the_place_of_the_vector() -> None:
    rnn = rnnnorm.IndRNN(2, 3)
    rnn.weight_hh_l0 = nn.Parameter(torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"weight_hh_l0 must be a vector, got shape \(3, 3\)"):
        rnn(torch.randn(4, 1, 2))


def test_ragged_batches_in_two_directions_and_a_deep_residual_stack() -> None:
    rnn = rnnnorm.IndRNN(
        INPUT, H, 3, bidirectional=True, residual="plain", norm="bn-vertical", hidden_dropout=0.2, weight_dropout=0.1
    )
    output, h_n = rnn(padded(), lengths=LENGTHS)
    assert output.shape == (7, len(LENGTHS), 2 * H)
    assert h_n.shape == (6, len(LENGTHS), H)
    output.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in rnn.parameters())


def test_the_recurrent_product_amplifies_by_its_largest_weight() -> None:
    u = torch.tensor([0.5, -2.0, 1.0])
    assert spectral_norms(u).item() == pytest.approx(2)
    assert spectral_norms(u, torch.tensor([[4.0, 1.0, 1.0]])).item() == pytest.approx(2)


def test_tasks_choose_its_nonlinearity() -> None:
    rnn = build_recurrent("indrnn", {"nonlinearity": "tanh", "bound": None}, 3, 4, 2, norm="bn-vertical")
    assert isinstance(rnn, rnnnorm.IndRNN)
    assert (rnn.nonlinearity, rnn.cell.limit, rnn.mode) == ("tanh", None, "IndRNN_TANH")


def test_compiled_and_traced() -> None:
    assert_compiled_and_traced_as_eagerly(rnnnorm.IndRNN(INPUT, H, norm="bn-timestep", dtype=DOUBLE))
