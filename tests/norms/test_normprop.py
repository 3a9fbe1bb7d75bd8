"""Recurrent normalization propagation: its constants, its equations, and that they preserve variance."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from support import INPUT, assert_same
from torch import nn
from torch.autograd import gradcheck

import rnnnorm
from rnnnorm.norms.normprop import NormPropCell, NormPropInput, NormPropOutput, cell_variance, output_variance

H = 5
DOUBLE = torch.float64
GAMMAS = [(2.0, 2.0, 1.0), (0.5, 0.5, 0.5), (1.0, 3.0, 2.0)]


def gaussian(f: object, mean: float = 0.0, std: float = 1.0) -> float:
    """E[f(z)], z ~ N(mean, std²), by adaptive quadrature."""
    return quad(lambda z: f(mean + std * z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi), -12, 12, epsabs=1e-12)[0]  # type: ignore[operator]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def square_of_gate(mean: float, std: float) -> float:
    return gaussian(lambda z: sigmoid(z) ** 2, mean, std)


class TestConstants:
    @pytest.mark.parametrize("gammas", GAMMAS)
    @pytest.mark.parametrize("forget_bias", [0.0, 1.0])
    def test_equations_8_and_12(self, gammas: tuple[float, float, float], forget_bias: float) -> None:
        x, h, c = gammas
        std = math.sqrt(x * x + h * h)
        candidate = gaussian(lambda z: math.tanh(z) ** 2, 0, std)
        expected = candidate * square_of_gate(0, std) / (1 - square_of_gate(forget_bias, std))
        assert cell_variance(x, h, forget_bias=forget_bias) == pytest.approx(expected, rel=1e-8)
        expected = gaussian(lambda z: math.tanh(z) ** 2, 0, c) * square_of_gate(0, std)
        assert output_variance(x, h, c) == pytest.approx(expected, rel=1e-8)

    def test_full_correlation_is_the_papers_equation_9(self) -> None:
        candidate = gaussian(lambda z: math.tanh(z) ** 2, 0, 4)
        expected = candidate * square_of_gate(0, 4) / (1 - square_of_gate(0, 4))
        assert cell_variance(2, 2, correlation=1) == pytest.approx(expected, rel=1e-8)

    def test_cell_variance_is_where_independent_draws_settle(self) -> None:
        random = np.random.default_rng(0)
        c = np.zeros(200_000)
        for _ in range(40):
            i, f, g = math.sqrt(8) * random.standard_normal((3, len(c)))
            c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        assert c.var() == pytest.approx(cell_variance(2, 2), rel=0.02)

    def test_options_reach_the_modules(self) -> None:
        norms = rnnnorm.LSTM(INPUT, H, norm="normprop:gamma_x=1:gamma_h=3:gamma_c=2:correlation=0.5").norms("_l0")
        assert norms.cell.variance == cell_variance(1, 3, correlation=0.5)
        assert norms.output.variance == output_variance(1, 3, 2, correlation=0.5)
        assert norms.cell.gain.unique().item() == 2
        assert (
            NormPropCell(H, forget_bias=1.0).variance == cell_variance(2, 2, forget_bias=1.0) > NormPropCell(H).variance
        )


def test_equations_13_to_15() -> None:
    lstm = rnnnorm.LSTM(INPUT, H, norm="normprop", dtype=DOUBLE)
    for name, p in lstm.named_parameters():
        if not name.startswith("bias"):
            nn.init.uniform_(p, 0.3, 1.5)
    p = {name: value.detach().numpy() for name, value in lstm.named_parameters()}
    weights = {}
    for w in ("weight_ih_l0", "weight_hh_l0"):
        gamma, v = (p[f"parametrizations.{w}.original{k}"] for k in (0, 1))
        weights[w] = gamma * v / np.linalg.norm(v, axis=1, keepdims=True)
    x = torch.randn(4, 3, INPUT, dtype=DOUBLE)
    h = c = np.zeros((3, H))
    for x_t in x.numpy():
        z = x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T + p["bias_ih_l0"]
        i, f, g, o = np.split(z, 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-a)) for a in (i, f, o))
        c = i * np.tanh(g) + f * c
        h = o * np.tanh(p["norms_l0.cell.gain"] * c / math.sqrt(cell_variance(2, 2)))
        h = h / math.sqrt(output_variance(2, 2, 1))
    output, (_, c_n) = lstm(x)
    assert_same(output[-1], torch.from_numpy(h), "h", 1e-11)
    assert_same(c_n[0], torch.from_numpy(c), "c, carried as it is", 1e-11)


def test_variance_is_preserved_over_time() -> None:
    size = 100
    variances = {}
    for norm in ("normprop", "none"):
        lstm = rnnnorm.LSTM(size, size, norm=norm, init="orthogonal")
        nn.init.zeros_(lstm.bias_ih_l0)
        with torch.no_grad():
            output, _ = lstm(torch.randn(40, 100, size))
        variances[norm] = output[20:].var(dim=(1, 2))
    assert variances["normprop"].sub(1).abs().max() < 0.15
    assert variances["none"].max() < 0.5


class TestWeights:
    def test_start_at_gamma_and_keep_the_direction_that_was_drawn(self) -> None:
        torch.manual_seed(2)
        lstm = rnnnorm.LSTM(INPUT, H, norm="normprop:gamma_x=0.5:gamma_h=3")
        torch.manual_seed(2)
        plain = rnnnorm.LSTM(INPUT, H)
        for name, gamma in (("weight_ih_l0", 0.5), ("weight_hh_l0", 3.0)):
            drawn = getattr(plain, name)
            assert_same(getattr(lstm, name), gamma * drawn / drawn.norm(dim=1, keepdim=True), name, 1e-6)
            direction = lstm.get_parameter(f"parametrizations.{name}.original1")
            assert_same(direction.norm(dim=1), torch.ones(4 * H), "unit rows", 1e-6)

    def test_the_scale_of_what_is_assigned_does_not_matter(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, H, norm="normprop")
        W = torch.randn(4 * H, H)
        lstm.assign("weight_hh_l0", W)
        once = lstm.weight_hh_l0.clone()
        lstm.assign("weight_hh_l0", 50 * W)
        assert_same(lstm.weight_hh_l0, once, "composed weight", 1e-6)
        assert_same(once.norm(dim=1), torch.full((4 * H,), 2.0), "length", 1e-5)

    def test_gamma_is_learned_row_by_row(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, H, norm="normprop")
        lstm(torch.randn(4, 3, INPUT))[0].square().sum().backward()
        gamma = lstm.get_parameter("parametrizations.weight_hh_l0.original0")
        assert gamma.shape == (4 * H, 1)
        assert (gamma.grad != 0).all()

    def test_moving_along_a_row_changes_nothing(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, H, norm="normprop", dtype=DOUBLE)
        other = copy.deepcopy(lstm)
        with torch.no_grad():
            other.get_parameter("parametrizations.weight_ih_l0.original1").mul_(7)
        x = torch.randn(3, 2, INPUT, dtype=DOUBLE)
        assert_same(other(x)[0], lstm(x)[0], "output", 1e-12)


class TestRows:
    @pytest.mark.parametrize("cls", [NormPropCell, NormPropOutput])
    def test_a_constant_factor(self, cls: type[NormPropCell | NormPropOutput]) -> None:
        norm = cls(H, dtype=DOUBLE)
        x = torch.randn(3, H, dtype=DOUBLE, requires_grad=True)
        assert_same(norm(x, 4), x / math.sqrt(norm.variance), "y", 1e-12)
        assert torch.equal(norm(x[:1], 0), norm(x, 0)[:1])
        assert gradcheck(norm, (x,))
        assert norm(x.bfloat16()).dtype == torch.bfloat16
        assert not list(norm.buffers())

    def test_the_output_has_nothing_to_learn(self) -> None:
        norm = NormPropOutput(H)
        assert not list(norm.parameters())
        norm.reset_parameters()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"hidden": "normprop-input"}, "cannot stand at hidden: it belongs to W_ih"),
        ({"input": "normprop-hidden"}, "cannot stand at input: it belongs to W_hh"),
        ({"cell": "normprop-input"}, "cannot stand at cell"),
        ({"output": "normprop-cell"}, "cannot stand at output: its constant is the variance of the cell"),
        ({"cell": "normprop-output"}, "cannot stand at cell: its constant is the variance of the hidden state"),
        ({"input": "normprop-input:gamma_x=0"}, "gamma_x must be a positive number, got 0"),
        ({"hidden": "normprop-hidden:gamma_h=-1"}, "gamma_h must be a positive number, got -1"),
        ({"cell": "normprop-cell:gamma_c=0"}, "gamma_c must be a positive number, got 0"),
        ({"cell": "normprop-cell:correlation=2"}, "correlation must be a number between 0 and 1, got 2"),
        ({"cell": "normprop-cell:forget_bias=1e30"}, "forget_bias must be so small that the gate forgets something"),
        ({"output": "normprop-output:gain=1"}, "'normprop-output' has no option 'gain'"),
    ],
)
def test_errors(keys: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rnnnorm.Norm(**keys)


def test_one_input_feature_leaves_the_sign() -> None:
    module = nn.Linear(1, 3, bias=False)
    nn.init.constant_(module.weight, -0.2)
    NormPropInput().register(module, "weight")
    assert_same(module.weight, torch.full((3, 1), -2.0), "weight", 1e-6)
