"""Which backend runs: what "auto" chooses, what is refused, and that nobody is passed over."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scan.native_cases import build, data, layer_of, needs_library, ran, twin
from torch import Tensor, nn

import rnnnorm
from rnnnorm.equations import NO_NORMS, QUIET, LSTMEquations
from rnnnorm.scan import BACKENDS, plan
from rnnnorm.scan.native import function


def refuse(*_: Any) -> None:
    """A hook that changes nothing."""


WATCHERS: dict[str, Callable[[nn.Module], Any]] = {
    "forward-hook": lambda m: m.register_forward_hook(refuse),
    "forward-pre-hook": lambda m: m.register_forward_pre_hook(refuse),
    "backward-hook": lambda m: m.register_full_backward_hook(refuse),
    "backward-pre-hook": lambda m: m.register_full_backward_pre_hook(refuse),
}


@needs_library
@pytest.mark.parametrize("watcher", WATCHERS)
def test_hooks_are_called(watcher: str) -> None:
    lstm = rnnnorm.LSTM(3, 4, norm="ln")
    handle = WATCHERS[watcher](lstm.norms("_l0").hidden)
    assert ran(lstm) == "reference"
    handle.remove()
    assert ran(lstm) == "native"


@needs_library
def test_a_replaced_forward_is_called() -> None:
    lstm = rnnnorm.LSTM(3, 4, norm="ln")
    norm = lstm.norms("_l0").cell
    norm.forward = lambda x, t=0: x * 0  # type: ignore[method-assign]
    output, _ = lstm(torch.randn(3, 6, 3))
    assert lstm.ran == "reference"
    assert not output.any()


OPTIONS: dict[str, tuple[dict[str, Any], str, str]] = {  # options, backend in training, in evaluation
    "hidden-dropout": ({"hidden_dropout": 0.5}, "native", "native"),
    "recurrent-dropout": ({"recurrent_dropout": 0.5}, "native", "native"),
    "zoneout": ({"zoneout": 0.1}, "native", "native"),
    "peepholes": ({"peepholes": True}, "native", "native"),
    "projection": ({"proj_size": 2}, "native", "native"),
    "projection-and-noise": ({"proj_size": 2, "zoneout": 0.1}, "reference", "reference"),
    "weight-dropout": ({"weight_dropout": 0.5}, "native", "native"),
    "variational-dropout": ({"variational_dropout": 0.5}, "native", "native"),
}


@needs_library
@pytest.mark.parametrize("option", OPTIONS)
def test_options(option: str) -> None:
    options, in_training, in_evaluation = OPTIONS[option]
    lstm = rnnnorm.LSTM(3, 4, norm="ln", **options)
    assert (ran(lstm.train()), ran(lstm.eval())) == (in_training, in_evaluation)


def test_without_normalizers_and_not_covered() -> None:
    """Torch's operators run what has no normalizer and no compiled scan."""
    assert ran(rnnnorm.LSTM(3, 4, dtype=torch.bfloat16), torch.bfloat16) == "torch"


@needs_library
@pytest.mark.parametrize("cell", [rnnnorm.GRU, rnnnorm.RNN])
def test_other_cells(cell: Any) -> None:
    assert ran(cell(3, 4)) == ran(cell(3, 4, norm="ln", zoneout=0.1)) == "native"
    with pytest.raises(ValueError, match="'triton' does not cover this"):
        cell(3, 4, backend="triton")


class Doubled(LSTMEquations):
    """Equations under the name of others."""

    def step(self, *args: Any) -> tuple[Tensor, ...]:
        return tuple(2 * state for state in super().step(*args))


def test_equations_that_are_derived_from_known_ones() -> None:
    """A scan knows nothing of what they compute."""
    assert not plan.supports(Doubled(), NO_NORMS, QUIET)
    assert plan.supports(LSTMEquations(), NO_NORMS, QUIET)


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match="unknown backend 'fast'; there are: auto, native, torch, triton, reference"):
        rnnnorm.LSTM(3, 4, backend="fast")


def test_every_backend_says_what_it_is() -> None:
    assert list(BACKENDS) == ["native", "torch", "triton", "reference"]


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision(half: torch.dtype) -> None:
    lstm = rnnnorm.LSTM(3, 4, norm="ln", dtype=half)
    assert ran(lstm, half) == "reference"
    lstm.backend = "native"
    with pytest.raises(RuntimeError, match=f"'native' cannot run {half} on cpu .* use backend='auto'"):
        ran(lstm, half)


def test_autocast() -> None:
    lstm = rnnnorm.LSTM(3, 4, norm="ln")
    with torch.autocast("cpu", torch.bfloat16):
        assert ran(lstm) == "reference"
        lstm.backend = "native"
        with pytest.raises(RuntimeError, match="use backend='auto'"):
            ran(lstm)


@needs_library
@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep"])
@pytest.mark.parametrize("which", [0, 1], ids=["h_0", "c_0"])
def test_states_of_another_type(which: int, norm: str) -> None:
    """They must not be read as if they had the type of the input: the reference's answer, or its refusal."""
    lstm = rnnnorm.LSTM(3, 4, norm=norm, backend="auto")
    x, hx = torch.randn(3, 6, 3), [torch.randn(1, 6, 4) for _ in range(2)]
    hx[which] = hx[which].double()
    reference = twin(lstm)
    try:
        expected = reference(x, tuple(hx))[0]
    except (RuntimeError, ValueError):
        with pytest.raises((RuntimeError, ValueError), match=r"(?i)float|dtype|double"):
            lstm(x, tuple(hx))
    else:
        torch.testing.assert_close(lstm(x, tuple(hx))[0], expected)


@needs_library
@pytest.mark.parametrize("norm", ["ln", "rms", "gn", "ln-sum", "bn-timestep", "bn-vertical"])
def test_normalizers_of_another_type(norm: str) -> None:
    """Gains in float32 beside weights in float64, which the reference allows."""
    lstm = build(norm, backend="auto").eval()
    lstm.norms("_l0").float()
    reference, x = twin(lstm), data((4,) * 9)
    torch.testing.assert_close(lstm(x)[0], reference(x)[0])


@needs_library
@pytest.mark.parametrize("norm", ["bn-timestep:hidden.min_rows=4", "bn-timestep:cell.frozen=true"])
def test_places_that_disagree(norm: str) -> None:
    """Not all of them normalize the same steps by moments of their own: not for the plain scan, nor for Triton's."""
    lstm = rnnnorm.LSTM(3, 4, norm=norm)
    assert ran(lstm) == "native"
    assert function.variant(layer_of(lstm)) == "LSTM"
    if "frozen" in norm:
        assert function.variant(layer_of(lstm.eval())) == "plain"


@needs_library
@pytest.mark.parametrize("norm", ["bn-vertical", "bn-star"])
def test_a_wide_input_is_folded_too(norm: str) -> None:
    assert ran(rnnnorm.LSTM(40, 4, norm=norm)) == "native"


def test_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function, "library", lambda _: None)
    assert ran(rnnnorm.LSTM(3, 4, norm="ln")) == "reference"
    assert ran(rnnnorm.LSTM(3, 4)) == "torch"
    with pytest.raises(RuntimeError, match="'native' cannot run"):
        ran(rnnnorm.LSTM(3, 4, norm="ln", backend="native"))


@needs_library
@pytest.mark.parametrize("transform", ["grad", "jvp", "vmap"])
@pytest.mark.parametrize("norm", ["none", "ln"])
def test_function_transforms(norm: str, transform: str) -> None:
    """torch.func works on what is plain autograd; "auto" must not take that away."""
    lstm = build(norm, backend="auto")
    x = data((3, 3, 3))

    def apply(network: rnnnorm.LSTM) -> Tensor:
        if transform == "grad":
            return torch.func.grad(lambda v: network(v)[0].square().sum())(x)
        if transform == "jvp":
            return torch.func.jvp(lambda v: network(v)[0], (x,), (x,))[1]
        return torch.func.vmap(lambda v: network(v)[0])(torch.stack([x, 2 * x]))

    torch.testing.assert_close(apply(lstm), apply(twin(lstm)))


@pytest.mark.parametrize("steps", [1, 3])
def test_states_without_memory(steps: int) -> None:
    """Torch's own operator would read them through an address of nothing."""
    lstm, x = rnnnorm.LSTM(4, 6), torch.randn(steps, 2, 4)
    h, nothing = torch.randn(1, 2, 6), torch._efficientzerotensor((1, 2, 6))
    torch.testing.assert_close(lstm(x, (h, nothing)), lstm(x, (h, torch.zeros(1, 2, 6))))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize(
    ("cell", "options"),
    [("LSTM", {}), ("LSTM", {"proj_size": 2}), ("GRU", {}), ("RNN", {}), ("RNN", {"nonlinearity": "relu"})],
)
def test_one_step_by_the_operator_of_the_cell(cell: str, options: dict[str, Any], rows: int, bias: bool) -> None:
    """Values, gradients and those of gradients are those of the reference."""
    net = getattr(rnnnorm, cell)(3, 4, num_layers=2, bias=bias, dtype=torch.float64, **options)
    plain = copy.deepcopy(net)
    plain.backend = "reference"
    x, found = torch.randn(1, rows, 3, dtype=torch.float64), []
    for one in (net, plain):
        row = x.clone().requires_grad_()
        output, state = one(row)
        states = state if isinstance(state, tuple) else (state,)
        loss = output.square().sum() + sum((k + 2) * s.sin().sum() for k, s in enumerate(states))
        (first,) = torch.autograd.grad(loss, row, create_graph=True)
        (loss + first.square().sum()).backward()
        found.append([output, *states, first, row.grad, *(p.grad for p in one.parameters())])
    assert (net.ran, plain.ran) == ("torch", "reference")
    for actual, expected in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)
