"""Sequence-wise batch normalization as a weight matrix and a bias, against `BatchNorm` itself."""

from __future__ import annotations

import copy

import pytest
import torch
from scan.native_cases import Poison, assert_near, data, distance
from torch import Tensor

from rnnnorm.norms.accumulator import Accumulator
from rnnnorm.norms.batch import BatchNorm
from rnnnorm.norms.fusible import ColumnStatistics
from rnnnorm.scan import fold as module
from rnnnorm.scan.fold import fold
from rnnnorm.scan.plan import Place

FEATURES, INPUT = 12, 5


@pytest.fixture(autouse=True)
def _poison(monkeypatch: pytest.MonkeyPatch) -> None:
    Poison(monkeypatch)


def place_of(norm: BatchNorm) -> Place:
    return Place(ColumnStatistics(norm.eps, sequence=True), norm.gain, norm.bias, norm)


def make(dtype: torch.dtype = torch.float64, **options: object) -> BatchNorm:
    norm = BatchNorm(FEATURES, statistics="sequence", dtype=dtype, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        norm.gain.uniform_(0.5, 1.5)
    norm.stats.running_mean.normal_()
    norm.stats.running_var.uniform_(0.5, 2)
    return norm


def folded(norm: BatchNorm, x: Tensor, W: Tensor, bias: Tensor | None) -> Tensor:
    weight, shift = fold(place_of(norm), x, W, bias)
    return x @ weight.t() + shift


def normalized(norm: BatchNorm, x: Tensor, W: Tensor, bias: Tensor | None) -> Tensor:
    y = norm(x @ W.t())
    return y if bias is None else y + bias


def results(apply: object, norm: BatchNorm, x: Tensor, W: Tensor, bias: Tensor | None) -> dict[str, Tensor]:
    """Rows, gradients of a fixed function of them, and derivatives of those gradients, and buffers."""
    inputs = {"x": x, "W": W} | ({} if bias is None else {"bias": bias})
    inputs = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    y = apply(norm, inputs["x"], inputs["W"], inputs.get("bias"))  # type: ignore[operator]
    inputs["gain"] = norm.gain
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).cos().view(y.shape).to(y)
    first = torch.autograd.grad((y * weights + y.pow(3)).sum(), list(inputs.values()), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), list(inputs.values()))
    found = {"y": y.detach()} | {f"grad of {n}": g.detach() for n, g in zip(inputs, first, strict=True)}
    found |= {f"second by {n}": g for n, g in zip(inputs, second, strict=True)}
    return found | {name: b.clone() for name, b in norm.named_buffers()}


@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("rows", [1, 2, 3, 40])
@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"frozen": True}, {"min_rows": 3}, {"eps": 0.1}], ids=str)
@pytest.mark.parametrize("mode", ["train", "eval", "batch", "population"])
def test_it_equals_batch_norm(mode: str, options: dict[str, object], rows: int, biased: bool) -> None:
    x, W = torch.randn(rows, INPUT, dtype=torch.float64) + 2, torch.randn(FEATURES, INPUT, dtype=torch.float64)
    bias = torch.randn(FEATURES, dtype=torch.float64) if biased else None
    ours = make(**options).train(mode == "train")
    if mode in ("batch", "population"):
        ours.stats.source = mode
    ours.stats.population_mean, ours.stats.population_var = torch.randn(2, 1, FEATURES, dtype=torch.float64).square()
    ours.stats.population_rows = torch.tensor([7])
    other = copy.deepcopy(ours)
    for _ in range(2):  # the second time with statistics that the first one has moved
        actual, expected = results(folded, ours, x, W, bias), results(normalized, other, x, W, bias)
        # Of two rows all normalized values are ±1 and gradients nearly cancel: what is left has few digits.
        assert_near(actual, expected, 1e-6 if rows == 2 and mode in ("train", "batch") else 1e-9)
        assert_near({"y": actual["y"]}, {"y": expected["y"]}, 1e-10)


@pytest.mark.parametrize("rows", [1, 2, 30])
def test_it_gathers_population_statistics(rows: int) -> None:
    ours = make(min_rows=3).eval()
    other = copy.deepcopy(ours)
    for norm in (ours, other):
        norm.stats.accumulator = Accumulator(norm.stats.running_mean)
    for _ in range(3):
        x, W = torch.randn(rows, INPUT, dtype=torch.float64), torch.randn(FEATURES, INPUT, dtype=torch.float64)
        assert distance(folded(ours, x, W, None).detach(), normalized(other, x, W, None).detach()) < 1e-10
    for norm in (ours, other):
        assert norm.stats.accumulator is not None
        norm.stats.store_population(norm.stats.accumulator)
    assert_near(ours.state_dict(), other.state_dict())


CORRELATED = {"far-from-0": (1.0, 100.0), "nearly-collinear": (1e-2, 0.0), "collinear-and-far": (1e-2, 3.0)}


@pytest.mark.parametrize("case", CORRELATED)
def test_features_that_go_together(case: str) -> None:
    """In float32 as near to double precision as normalizing the products themselves, or nearly so.

    The differences of features, which some rows of W read, are a hundredth of the features.
    """
    spread, offset = CORRELATED[case]
    x = torch.randn(500, 1).expand(-1, INPUT) + spread * torch.randn(500, INPUT) + offset
    W = torch.randn(FEATURES, INPUT)
    W[: FEATURES // 2] -= W[: FEATURES // 2].mean(1, keepdim=True)
    norm = make(torch.float32)
    exact = normalized(copy.deepcopy(norm).double(), x.double(), W.double(), None).detach()
    rounded = normalized(copy.deepcopy(norm), x, W, None).detach()
    actual = folded(norm, x, W, None).detach()
    for rows in (slice(0, FEATURES // 2), slice(FEATURES // 2, None)):
        error, usual = distance(actual[:, rows], exact[:, rows]), distance(rounded[:, rows], exact[:, rows])
        assert error < max(1e-5, 4 * usual), (error, usual)


def test_a_feature_that_does_not_vary() -> None:
    """Its variance is 0, not something negative by rounding: the result is finite."""
    x = torch.full((50, INPUT), 3.3333, requires_grad=True)
    norm = make(torch.float32)
    y = folded(norm, x, torch.randn(FEATURES, INPUT), None)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (norm.stats.running_var >= 0).all()


@pytest.mark.parametrize(("rows", "by_covariance"), [(20, False), (60, False), (61, True), (500, True)])
def test_the_cheaper_way_to_a_variance(rows: int, by_covariance: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are multiplied; of many, the covariance is taken. Both are right, with all derivatives."""
    taken = []
    real = module._Covariance.apply
    monkeypatch.setattr(module._Covariance, "apply", lambda x: taken.append(x) or real(x))
    norm, x, W = (
        make(),
        torch.randn(rows, INPUT, dtype=torch.float64),
        torch.randn(FEATURES, INPUT, dtype=torch.float64),
    )
    actual = results(folded, copy.deepcopy(norm), x, W, None)
    assert bool(taken) is by_covariance
    expected = results(normalized, copy.deepcopy(norm), x, W, None)
    for name, value in expected.items():
        assert distance(actual[name], value) < 1e-10, name


def test_it_does_not_change_its_inputs() -> None:
    x, W, bias = data((4, 4))[:, 0], torch.randn(FEATURES, INPUT, dtype=torch.float64), torch.zeros(FEATURES)
    before = [t.clone() for t in (x, W, bias)]
    folded(make(), x, W, bias.double())
    assert all(torch.equal(a, b) for a, b in zip((x, W, bias), before, strict=True))
