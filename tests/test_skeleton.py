"""What a compiled graph is told of a network is what the network is: options, modules, classes, tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rnnnorm
from rnnnorm.nn import operator
from rnnnorm.norms import NORMALIZERS

INPUT, HIDDEN = 3, 5


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Graphs and classes of one test are none of the next one's."""
    torch._dynamo.reset()
    before = dict(NORMALIZERS)
    NORMALIZERS[Scaling.name] = Scaling
    yield
    NORMALIZERS.clear()
    NORMALIZERS.update(before)
    torch._dynamo.reset()


def build(norm: Any = "ln", cell: Any = rnnnorm.LSTM, **options: Any) -> Any:
    return cell(INPUT, HIDDEN, norm=norm, dtype=torch.float64, **options)


def rows() -> Tensor:
    return torch.randn(4, 6, INPUT, dtype=torch.float64)


def assert_same_steps(module: Any, call: Any = None, steps: int = 2, **keys: Any) -> None:
    """Values, gradients and buffers, compiled and by the eager reference."""
    plain = copy.deepcopy(module)
    plain.backend = "reference"
    call = torch.compile(module, backend="aot_eager") if call is None else call
    x = rows()
    for seed in range(steps):
        found = []
        for run, network in ((call, module), (plain, plain)):
            torch.manual_seed(seed)
            entering = x.clone().requires_grad_()
            output, (h_n, c_n) = run(entering, **keys)
            loss = output.square().sum() + h_n.sin().sum() + c_n.sum()
            given = torch.autograd.grad(loss, [entering, *network.parameters()], allow_unused=True)
            found.append((output, h_n, c_n, *given, *network.buffers()))
        for actual, expected in zip(*found, strict=True):
            torch.testing.assert_close(actual, expected)


class Scaling(rnnnorm.Normalizer):
    """Has options of all kinds."""

    name = "scaling-of-a-test"
    strength = 1.0

    def __init__(self, num_features: int, **keys: Any) -> None:
        super().__init__(num_features, **keys)
        self.factors, self.factor = [1.0, 1.0], torch.tensor(1.0)

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        return self.gain * x * self.strength * self.factors[0] * self.factor.to(x)


del NORMALIZERS[Scaling.name]  # it is none of the package's
CHANGES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "NumPy's number": ("bn-timestep", lambda m: setattr(m.norms_l0.hidden, "momentum", np.float64(0.7))),
    "NumPy's float32": ("ln", lambda m: setattr(m.norms_l0.hidden, "eps", np.float32(0.5))),
    "a tensor": ("ln", lambda m: setattr(m.norms_l0.hidden, "eps", torch.tensor(0.5))),
    "infinity": ("ln", lambda m: setattr(m.norms_l0.hidden, "eps", float("inf"))),
    "the noise": ("ln", lambda m: setattr(m, "noise", replace(m.noise, zoneout=(0.9, 0.9)))),
    "over the class's": (Scaling.name, lambda m: setattr(m.norms_l0.hidden, "strength", 3.0)),
    "a tensor over the class's": (Scaling.name, lambda m: setattr(m.norms_l0.hidden, "strength", torch.tensor(3.0))),
    "a list": (Scaling.name, lambda m: setattr(m.norms_l0.hidden, "factors", [3.0, 1.0])),
    "a tensor for a tensor": (Scaling.name, lambda m: setattr(m.norms_l0.hidden, "factor", torch.tensor(3.0))),
}


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("norm", "change"), CHANGES.values(), ids=CHANGES)
def test_options_that_change(norm: Any, change: Callable[[Any], Any], late: bool) -> None:
    """Before or after compilation, to values of any type."""
    norm = rnnnorm.Norm(hidden=norm) if norm == Scaling.name else norm
    module, other = build(norm), build(norm)
    call = torch.compile(module, backend="aot_eager")
    if late:
        call(rows())
    change(module)
    assert_same_steps(module, call)
    assert_same_steps(other)  # which is built alike, and has not changed


@pytest.mark.parametrize("path", ["norms_l0.hidden", "norms_l0", "between_l0"])
def test_a_module_that_is_removed(path: str) -> None:
    """Those that are built alike keep theirs."""
    norm = rnnnorm.Norm(input="ln", hidden="ln", between="ln")
    module, other = (build(norm, num_layers=2) for _ in range(2))
    owner, _, name = path.rpartition(".")
    setattr(module.get_submodule(owner), name, None)
    assert_same_steps(module)
    assert_same_steps(other)


def test_a_module_at_two_places() -> None:
    module = rnnnorm.LSTM(INPUT, INPUT, 2, norm="bn-timestep", dtype=torch.float64)
    module.norms_l1 = module.norms_l0
    assert_same_steps(module)


def test_a_module_with_more_parameters_in_its_place() -> None:
    module = build()
    module.norms_l0.hidden = rnnnorm.norms.LayerNorm(4 * HIDDEN, bias=True, dtype=torch.float64)
    nn.init.normal_(module.norms_l0.hidden.bias)
    assert_same_steps(module)


def test_modules_inside_a_normalizer() -> None:
    class Whitening(rnnnorm.Normalizer):
        name = "whitening-of-a-test"

        def __init__(self, num_features: int, **keys: Any) -> None:
            super().__init__(num_features, **keys)
            self.mixing = nn.Linear(num_features, num_features, device=keys.get("device"), dtype=keys.get("dtype"))

        def forward(self, x: Tensor, t: int = 0) -> Tensor:
            return self.gain * self.mixing(x)

    assert_same_steps(build(rnnnorm.Norm(hidden="whitening-of-a-test")))


def test_buffers_that_are_assigned() -> None:
    class Recalling(rnnnorm.Normalizer):
        name = "recalling-of-a-test"

        def __init__(self, num_features: int, **keys: Any) -> None:
            super().__init__(num_features, **keys)
            self.register_buffer("last", torch.zeros_like(self.gain))
            self.register_buffer("mean", torch.zeros_like(self.gain))

        def forward(self, x: Tensor, t: int = 0) -> Tensor:
            y = self.gain * x + self.last + self.mean
            if self.training:
                self.last = x.detach().mean(0)
                self.mean.lerp_(self.last, 0.5)
            return y

    assert_same_steps(build(rnnnorm.Norm(hidden="recalling-of-a-test")), steps=3)


def test_a_number_kept_between_calls_is_refused() -> None:
    class Counting(rnnnorm.Normalizer):
        name = "counting-of-a-test"
        calls = 0

        def forward(self, x: Tensor, t: int = 0) -> Tensor:
            self.calls += 1
            return self.gain * x * self.calls

    module = build(rnnnorm.Norm(hidden="counting-of-a-test"))
    with pytest.raises(RuntimeError, match=r"norms_l0.hidden \(Counting\) sets attributes while it runs"):
        torch.compile(module, backend="aot_eager")(rows())


def test_normalizers_that_learn_where_the_network_does_not() -> None:
    """Statistics move once, also where a backward pass runs the network again."""
    module = build("bn-timestep").eval()
    for norm in module.norms_l0.children():
        norm.train()
    assert_same_steps(module)
    plain, x = copy.deepcopy(module), rows()
    output, _ = torch.compile(module, backend="aot_eager")(x)
    operator._waiting.clear()
    output.sum().backward()
    plain(x)
    torch.testing.assert_close(dict(module.named_buffers()), dict(plain.named_buffers()))


@pytest.mark.parametrize("kind", ["normalizer", "network"])
def test_a_class_that_is_defined_anew(kind: str) -> None:
    """As in a notebook: objects of both definitions run as they are defined, whoever comes first."""

    def define(k: float) -> Any:
        if kind == "network":

            class Mine(rnnnorm.LSTM):
                def leave_layer(self, *args: Any, **keys: Any) -> Tensor:
                    return k * rnnnorm.LSTM.leave_layer(self, *args, **keys)

            return build(cell=Mine)

        class Times(rnnnorm.Normalizer):
            name = "times-of-a-test"

            def forward(self, x: Tensor, t: int = 0) -> Tensor:
                return self.gain * x * k

        return build(rnnnorm.Norm(hidden="times-of-a-test"))

    first = define(2.0)
    assert_same_steps(first)
    second, unused = define(3.0), define(4.0)
    assert_same_steps(second)
    for module in (unused, first, second):
        torch._dynamo.reset()
        assert_same_steps(module)


def test_noise_on_initial_states_of_ragged_batches() -> None:
    """The same numbers for the same sequences, though sequences are sorted elsewhere."""
    module = build("bn-timestep", num_layers=2, initial_state_noise=0.3)
    assert_same_steps(module, lengths=torch.tensor([4, 2, 1, 3, 4, 1]))


def test_casts_do_not_outlive_a_pass() -> None:
    """Inside one long block of autocast, which keeps its casts of weights to its end."""
    module, x = rnnnorm.LSTM(INPUT, 400), torch.randn(2, 2, INPUT)
    call = torch.compile(module, backend="aot_eager")

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(3):
            call(x)[0].sum().backward()
        before = resident()
        for _ in range(60):
            call(x)[0].sum().backward()
    assert resident() - before < 40  # 77 MiB, were they kept
