"""Recurrent networks inside `torch.compile(fullgraph=True)`: one operator that does what it does otherwise."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from support import LENGTHS
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import rnnnorm
from rnnnorm import opaque

INPUT, HIDDEN = 3, 5


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Graphs of one test are none of the next one's."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(module: Any, backend: str = "aot_eager") -> Any:
    return torch.compile(module, fullgraph=True, backend=backend)


def build(norm: str = "bn-timestep", cell: Any = rnnnorm.LSTM, **options: Any) -> Any:
    return cell(INPUT, HIDDEN, norm=norm, dtype=torch.float64, **options)


def rows(*shape: int) -> Tensor:
    return torch.randn(*(shape or (4, 6)), INPUT, dtype=torch.float64)


def step(call: Callable[..., Any], module: nn.Module, x: Tensor, *args: Any, **kw: Any) -> dict[str, Tensor]:
    """Outputs, gradients and buffers of one training step through `call`, which is the module or its compiled self."""
    x = x.clone().requires_grad_()
    for parameter in module.parameters():
        parameter.grad = None
    output, state = call(x, *args, **kw)
    states = state if isinstance(state, tuple) else (state,)
    (output.square().sum() + sum((k + 2) * s.sin().sum() for k, s in enumerate(states))).backward()
    results = {"output": output, **{f"state {k}": s for k, s in enumerate(states)}, "x": x.grad}
    results |= {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    results |= {name: b.clone() for name, b in module.named_buffers() if b is not None}
    return {name: value.detach().clone() for name, value in results.items()}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-10, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("norm", ["none", "wn", "ln", "bn-timestep", "bn-star", "dyt"])
def test_training_and_evaluation(norm: str) -> None:
    """Values, gradients and running statistics, over two steps; then evaluation by what they left."""
    module = build(norm, num_layers=2, bidirectional=True)
    plain, call = copy.deepcopy(module), compiled(module)
    for _ in range(2):
        x = rows()
        assert_same(step(call, module, x), step(plain, plain, x))
    assert (module.ran, plain.ran) == (plain.ran, module.ran)
    x = rows()
    with torch.no_grad():
        torch.testing.assert_close(call(x), plain(x))
        module.eval(), plain.eval()
        torch.testing.assert_close(call(x), plain(x))


@pytest.mark.parametrize("cell", [rnnnorm.GRU, rnnnorm.RNN])
def test_other_cells(cell: Any) -> None:
    module = build("ln", cell)
    plain, x = copy.deepcopy(module), rows()
    assert_same(step(compiled(module), module, x), step(plain, plain, x))


def test_inductor() -> None:
    module = build()
    plain, x = copy.deepcopy(module), rows()
    assert_same(step(compiled(module, "inductor"), module, x), step(plain, plain, x))


def test_other_shapes() -> None:
    """Another number of steps or sequences is the same graph or another one."""
    module = build()
    plain, call = copy.deepcopy(module), compiled(module)
    for T, B in ((4, 6), (7, 6), (3, 8), (1, 2)):
        x = rows(T, B)
        assert_same(step(call, module, x), step(plain, plain, x))


@pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])
def test_given_states(batch_first: bool) -> None:
    module = build(batch_first=batch_first, num_layers=2)
    plain, x = copy.deepcopy(module), rows()
    hx = tuple(torch.randn(2, 4 if batch_first else 6, HIDDEN, dtype=torch.float64) for _ in range(2))
    assert_same(step(compiled(module), module, x, hx), step(plain, plain, x, hx))


def test_inside_a_model() -> None:
    """Between other layers, two of them, gradients flowing through both."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = rnnnorm.LSTM(INPUT, HIDDEN, norm="ln", dtype=torch.float64)
            self.between = nn.Linear(HIDDEN, INPUT, dtype=torch.float64)
            self.second = build("bn-timestep")

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            middle = self.between(self.first(x * 2)[0]).tanh()
            output, (h_n, _) = self.second(middle)
            return output + 1, h_n

    module = Model()
    plain, call = copy.deepcopy(module), compiled(module)
    for _ in range(2):
        x = rows()
        assert_same(step(call, module, x), step(plain, plain, x))


@pytest.mark.parametrize("norm", ["ln", "bn-timestep"])
def test_ragged_batches(norm: str) -> None:
    """A PackedSequence goes in and comes out."""
    module = build(norm, bidirectional=True)
    plain = copy.deepcopy(module)
    packed = pack_padded_sequence(rows(7, 5), LENGTHS, enforce_sorted=False)

    def call(lstm: Any) -> Callable[[Tensor], Any]:
        def inner(x: Tensor) -> Any:
            output, state = lstm(PackedSequence(x, *packed[1:]))
            return output.data, state

        return inner

    assert_same(step(compiled(call(module)), module, packed.data), step(call(plain), plain, packed.data))


def test_one_sequence_without_a_batch() -> None:
    module = build("ln")
    plain, x = copy.deepcopy(module), rows(6)
    assert_same(step(compiled(module), module, x), step(plain, plain, x))


def test_frozen_parameters() -> None:
    module = build("ln")
    module.weight_hh_l0.requires_grad_(False)
    plain, x = copy.deepcopy(module), rows()
    actual = step(compiled(module), module, x)
    assert_same(actual, step(plain, plain, x))
    assert "weight_hh_l0" not in actual


def test_an_optimizer_is_followed() -> None:
    """Compiled code must not remember the weights of the first step."""
    module = build("bn-timestep")
    plain, call = copy.deepcopy(module), compiled(module)
    optimizers = [torch.optim.SGD(m.parameters(), 0.5) for m in (module, plain)]
    for _ in range(3):
        x = rows()
        assert_same(step(call, module, x), step(plain, plain, x))
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast(dtype: torch.dtype) -> None:
    """Types as eagerly, and values not farther from those in double precision."""
    module = rnnnorm.LSTM(INPUT, HIDDEN, norm="ln", dtype=dtype)
    plain, x = copy.deepcopy(module), rows().to(dtype)
    exact, _ = copy.deepcopy(module).double()(x.double())
    with torch.autocast("cpu", torch.bfloat16):
        expected, (h_n, _) = plain(x)
        actual, (h, _) = compiled(module)(x)
    assert (actual.dtype, h.dtype) == (expected.dtype, h_n.dtype)
    assert (actual - exact).norm() < 1.5 * (expected - exact).norm() + 1e-3
    actual.sum().backward()
    expected.sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, plain.get_parameter(name).grad, rtol=0.1, atol=0.3)


def test_nothing_waits_after_the_graph() -> None:
    """What forward leaves for backward lives as long as the graph, and is not there without one."""
    gc.collect()
    before = len(opaque._waiting)
    module = build()
    call = compiled(module)
    output, state = call(rows())
    assert len(opaque._waiting) == before + 1
    (output.sum() + state[0].sum()).backward()
    del output, state
    gc.collect()
    assert len(opaque._waiting) == before
    forgotten = call(rows())  # never differentiated
    del forgotten
    gc.collect()
    assert len(opaque._waiting) == before
    with torch.no_grad():
        kept = call(rows())
    assert len(opaque._waiting) == before
    assert not kept[0].requires_grad


def test_two_graphs_at_once() -> None:
    """Differentiated in the other order than they were made."""
    module = build("ln")
    plain, call = copy.deepcopy(module), compiled(module)
    inputs = rows(), rows()
    found = []
    for network in (plain, call):
        first, second = (network(x)[0].square().sum() for x in inputs)
        gradients = [
            torch.autograd.grad(loss, list((plain if network is plain else module).parameters()))
            for loss in (second, first)
        ]
        found.append([g for pair in gradients for g in pair])
    for expected, actual in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected)


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
}


@pytest.mark.parametrize("norm", ["bn-timestep", "wn"])
@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_compiles_to_itself(kind: str, norm: str) -> None:
    """Not to the module it was copied from, whose weights and statistics stay as they are."""
    original = build(norm)
    other = COPIES[kind](original)
    if kind != "copy":  # a shallow one shares its parameters
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(1.5)
        before = {name: b.clone() for name, b in original.named_buffers()}
    plain, x = copy.deepcopy(other), rows()
    assert_same(step(compiled(other), other, x), step(plain, plain, x))
    if kind != "copy":
        assert_same(dict(original.named_buffers()), before)


def test_modules_are_not_kept_alive() -> None:
    gc.collect()
    before = len(opaque._runners)
    module = build()
    assert len(opaque._runners) == before + 1
    del module
    gc.collect()
    assert len(opaque._runners) == before


def test_eager_calls_are_no_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a compiled graph nothing is wrapped."""
    calls: list[int] = []
    monkeypatch.setattr(opaque, "run", lambda *args: calls.append(1))
    build()(rows())
    assert not calls
