"""Steps at which all rows agree: true gradients of the weights are 0 there, and `skip_constant` computes just that."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from scan.native_cases import assert_as_reference, assert_near, build, needs_library, run, states, twin
from torch import Tensor

import rnnnorm
from rnnnorm.equations import LSTMEquations

FEATURES, ROWS, AFTER = 6, 24, 8


def constant_start(blank: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """(blank + 8, 24, 6), of which the first steps are the same in all sequences."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(blank + AFTER, ROWS, FEATURES, generator=generator, dtype=torch.float64)
    x[:blank] = x[:blank, :1]
    return x.to(dtype)


def gradients(
    norm: str, blank: int, dtype: torch.dtype = torch.float64, cell: Any = rnnnorm.LSTM, **options: Any
) -> dict[str, Tensor]:
    """Of a random function of the last states, by all parameters."""
    torch.manual_seed(0)
    options = {"max_steps": 40, "init": "orthogonal", "dtype": torch.float64} | options
    network = cell(FEATURES, 20, norm=norm, **options).to(dtype)
    last = network(constant_start(blank, dtype))[1]
    h = last[0] if isinstance(last, tuple) else last
    direction = torch.randn(h.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (h * direction.to(dtype)).sum().backward()
    return {name: p.grad.double() for name, p in network.named_parameters() if p.grad is not None}


def deviation(actual: dict[str, Tensor], expected: dict[str, Tensor], name: str = "weight_ih_l0") -> float:
    return float((actual[name] - expected[name]).norm() / expected[name].norm())


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Nothing goes back from h_{t-1} to constant steps: a reference by other means, for networks in plain operators."""
    step, steps = LSTMEquations.step, [0]

    def without(self: Any, layer: Any, gates_x: Tensor, states: tuple[Tensor, ...], t: int) -> tuple[Tensor, ...]:
        states = (states[0].detach(), *states[1:]) if t <= steps[0] else states
        return step(self, layer, gates_x, states, t)

    def gradients_without(norm: str, blank: int, **options: Any) -> dict[str, Tensor]:
        monkeypatch.setattr(LSTMEquations, "step", without)
        steps[0] = blank
        found = gradients(norm, blank, backend="reference", **options)
        monkeypatch.undo()
        return found

    return gradients_without


@pytest.mark.parametrize("blank", [1, 2, 3])
def test_true_gradients_need_no_path_through_h(blank: int, cut: Any) -> None:
    """In float64 rounding errors are still small after three steps: nothing but they depend on that path."""
    full, without = gradients("bn-timestep", blank), cut("bn-timestep", blank)
    assert 0 < max(deviation(full, without, name) for name in full) < 1e-5


def test_what_explodes_is_rounding(cut: Any) -> None:
    """By 250 per step, and by the ratio of both precisions less in float64: 2⁻²⁹."""
    errors = {
        dtype: [deviation(gradients("bn-timestep", blank, dtype), cut("bn-timestep", blank)) for blank in (2, 3, 4)]
        for dtype in (torch.float32, torch.float64)
    }
    for found in errors.values():
        for one, next_one in pairwise(found):
            assert 60 < next_one / one < 1000
    for single, double in zip(errors[torch.float32], errors[torch.float64], strict=True):
        assert 2**26 < single / double < 2**32


@pytest.mark.parametrize("backend", ["reference", pytest.param("native", marks=needs_library)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("blank", [1, 4, 20])
def test_it_computes_the_true_ones(blank: int, dtype: torch.dtype, backend: str, cut: Any) -> None:
    expected = cut("bn-timestep", blank)
    actual = gradients("bn-timestep:skip_constant=true", blank, dtype, backend=backend)
    tolerance = 1e-4 if dtype is torch.float32 else 1e-8
    for name in expected:
        if expected[name].norm() > 1e-9:
            assert deviation(actual, expected, name) < tolerance, name


@pytest.mark.parametrize("norm", ["bn-timestep", "bn-shared", "bn-joint"])
@pytest.mark.parametrize("cell", [rnnnorm.LSTM, rnnnorm.GRU, rnnnorm.RNN])
def test_in_other_cells(cell: Any, norm: str) -> None:
    """Gradients in float32 are near those in float64, which without the option they are not."""
    for option, near in ((":skip_constant=true", True), ("", False)):
        single, double = (gradients(norm + option, 12, dtype, cell) for dtype in (torch.float32, torch.float64))
        assert (max(deviation(single, double, name) for name in double if "weight" in name) < 1e-3) == near


@pytest.mark.parametrize("norm", ["bn-timestep", "bn-shared", "bn-timestep:ghost=6", "bn-timestep:min_rows=5"])
def test_nothing_else_changes(norm: str) -> None:
    """Where rows differ, outputs, gradients and statistics are the same bits."""
    plain, skipping = (
        build(norm + option, 20, FEATURES, max_steps=40, backend="auto") for option in ("", ":skip_constant=true")
    )
    skipping.load_state_dict(plain.state_dict())
    x = constant_start(0)
    for training in (True, False):
        expected, actual = run(plain.train(training), x), run(skipping.train(training), x)
        assert all(torch.equal(actual[name], value) for name, value in expected.items())


@needs_library
@pytest.mark.parametrize("norm", ["bn-timestep:bias=true", "bn-shared", "bn-joint"])
@pytest.mark.parametrize("cell", [rnnnorm.LSTM, rnnnorm.GRU, rnnnorm.RNN])
def test_compiled_code_against_the_reference(cell: Any, norm: str) -> None:
    network = build(norm + ":skip_constant=true", 17, FEATURES, cell, max_steps=14)
    x = constant_start(5)
    same = tuple(state[:, :1].expand(-1, ROWS, -1) for state in states(network, ROWS))
    lengths = [13] * 10 + [9] * 8 + [3] * 6
    assert_as_reference(network, x, same, lengths)
    assert_as_reference(network, x, states(network, ROWS), lengths)
    assert_as_reference(network.eval(), x, same)


@pytest.mark.parametrize("backend", ["reference", pytest.param("native", marks=needs_library)])
@pytest.mark.parametrize("source", ["running", "population", "batch"])
def test_evaluation_is_of_the_same_function(source: str, backend: str) -> None:
    """In float32 rounding errors of constant steps grow to order 1 after four of them, whoever normalizes."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"max_steps": 40, "init": "orthogonal", "backend": backend}
    network = rnnnorm.LSTM(FEATURES, 20, norm="bn-timestep:skip_constant=true:momentum=1", **options)
    x = constant_start(20, torch.float32)
    expected = network(x)[0]
    rnnnorm.recalibrate(network, [x])
    with rnnnorm.statistics(network.eval(), source), torch.no_grad():
        actual = network(x)[0]
    tolerance = 1e-4 if source == "batch" else 3e-2  # stored variances are unbiased, and those of a batch are not
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


@needs_library
def test_one_step_of_a_stream() -> None:
    network = rnnnorm.LSTM(FEATURES, 20, norm="bn-timestep:skip_constant=true", max_steps=3).eval()
    with torch.no_grad():
        for stats in rnnnorm.norms.step_statistics(network):
            stats.num_rows.fill_(5)
            stats.running_mean.normal_()
            stats.running_var[:, ::2] = 0
        x, hx = torch.randn(1, 2, FEATURES), (torch.randn(1, 2, 20), torch.randn(1, 2, 20))
        assert_near(run(network, x, hx, seen=False), run(twin(network), x, hx, seen=False), 1e-5)


@needs_library
def test_second_derivatives() -> None:
    """Replayed in plain operators, constants are constants, too."""
    network = build("bn-timestep:skip_constant=true", 9, FEATURES, max_steps=14)
    found = []
    for either in (twin(network), network):
        x = constant_start(3).requires_grad_()
        (first,) = torch.autograd.grad(either(x)[0].square().sum(), x, create_graph=True)
        found.append({f"{k}": g for k, g in enumerate(torch.autograd.grad(first.square().sum(), either.weight_hh_l0))})
    assert_near(found[1], found[0], 1e-8)


def test_sequence_wise_statistics_have_no_constant_steps() -> None:
    with pytest.raises(ValueError, match="skip_constant is about steps"):
        rnnnorm.LSTM(3, 4, norm="bn-vertical:skip_constant=true")
