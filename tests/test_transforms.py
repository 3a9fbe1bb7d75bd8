"""Where somebody looks into operators, the answer is that of plain operators: values, gradients and what was asked."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from support import PRESETS
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.autograd import functional, grad
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts
from torch.utils.flop_counter import FlopCounterMode

import rnnnorm
from rnnnorm.common.transforms import apart, has_numbers, transformed

INPUT, HIDDEN = 4, 5
Network = Callable[[Tensor], Tensor]
Situation = Callable[[Network, Tensor], Tensor]


def square(f: Network, x: Tensor) -> Tensor:
    return f(x).square().sum()


def gradient(f: Network, x: Tensor) -> Tensor:
    return grad(square(f, x), x)[0]


def batched(f: Network, x: Tensor) -> Tensor:
    y = f(x)
    v = torch.stack([torch.ones_like(y), torch.arange(y.numel(), dtype=y.dtype).view_as(y)])
    return grad(y, x, v, is_grads_batched=True)[0]


def mapped_gradients(f: Network, x: Tensor) -> Tensor:
    y = f(x)
    return torch.vmap(lambda v: grad(y, x, v, retain_graph=True)[0])(torch.stack([torch.ones_like(y), y.detach()]))


def traced(f: Network, x: Tensor, **options: Any) -> Tensor:
    return make_fx(f, **options)(x)(2 * x)


def hooked(f: Network, x: Tensor, pack: Callable[[Tensor], Any], unpack: Callable[[Any], Tensor]) -> Tensor:
    with saved_tensors_hooks(pack, unpack):
        loss = square(f, x)
    return grad(loss, x)[0]


def offloaded(f: Network, x: Tensor) -> Tensor:
    with save_on_cpu():
        loss = square(f, x)
    return grad(loss, x)[0]


class Functions(TorchFunctionMode):
    """Sees every call of a function of torch."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Operators(TorchDispatchMode):
    """Sees every operator."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def seen_by(mode: Callable[[], Any], f: Network, x: Tensor, backward_too: bool = True) -> Tensor:
    with mode():
        loss = square(f, x)
        if backward_too:
            return grad(loss, x)[0]
    return grad(loss, x)[0]


def only_backward_seen_by(mode: Callable[[], Any], f: Network, x: Tensor) -> Tensor:
    loss = square(f, x)
    with mode():
        return grad(loss, x)[0]


def deterministic(f: Network, x: Tensor) -> Tensor:
    torch.use_deterministic_algorithms(True)
    try:
        return gradient(f, x)
    finally:
        torch.use_deterministic_algorithms(False)


def anomalous(f: Network, x: Tensor) -> Tensor:
    with torch.autograd.detect_anomaly(check_nan=True):
        return gradient(f, x)


def inferred(f: Network, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return f(x).clone()


def selected(f: Network, x: Tensor) -> Tensor:
    """Products are kept, the rest is computed again."""
    products = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)

    def policy(_: Any, operator: Any, *args: Any, **kw: Any) -> CheckpointPolicy:
        return CheckpointPolicy.MUST_SAVE if operator in products else CheckpointPolicy.PREFER_RECOMPUTE

    contexts = partial(create_selective_checkpoint_contexts, policy)
    return gradient(lambda z: checkpoint(f, z, use_reentrant=False, context_fn=contexts), x)


def reentrant(f: Network, x: Tensor) -> Tensor:
    square(lambda z: checkpoint(f, z, use_reentrant=True), x).backward()
    assert x.grad is not None
    return x.grad


class Sub(Tensor):
    """A subclass without ways of its own."""


SITUATIONS: dict[str, Situation] = {
    "jacobian": functional.jacobian,
    "jacobian-vectorized": partial(functional.jacobian, vectorize=True),
    "jacobian-vectorized-with-graph": partial(functional.jacobian, vectorize=True, create_graph=True),
    "jacobian-forward": partial(functional.jacobian, vectorize=True, strategy="forward-mode"),
    "hessian-vectorized": lambda f, x: functional.hessian(partial(square, f), x, vectorize=True),
    "hvp": lambda f, x: functional.hvp(partial(square, f), x, torch.ones_like(x))[1],
    "batched-gradients": batched,
    "vmap-of-gradients": mapped_gradients,
    "jacrev": lambda f, x: torch.func.jacrev(f)(x),
    "jacfwd": lambda f, x: torch.func.jacfwd(f)(x),
    "func-hessian": lambda f, x: torch.func.hessian(partial(square, f))(x),
    "func-grad": lambda f, x: torch.func.grad(partial(square, f))(x),
    "vmap": lambda f, x: torch.vmap(f)(torch.stack([x, 2 * x])),
    "vmap-of-func-grad": lambda f, x: torch.vmap(torch.func.grad(partial(square, f)))(torch.stack([x, 2 * x])),
    "linearize": lambda f, x: torch.func.linearize(f, x)[1](torch.ones_like(x)),
    "functionalize": lambda f, x: torch.func.functionalize(f)(x),
    "make-fx": traced,
    "make-fx-pre-dispatch": partial(traced, pre_dispatch=True),
    "make-fx-of-gradient": lambda f, x: traced(partial(gradient, f), x),
    "make-fx-of-func-grad": lambda f, x: traced(torch.func.grad(partial(square, f)), x),
    "make-fx-of-functionalize": lambda f, x: traced(torch.func.functionalize(f), x),
    "dispatch-mode": partial(seen_by, Operators),
    "dispatch-mode-forward": partial(seen_by, Operators, backward_too=False),
    "dispatch-mode-backward": partial(only_backward_seen_by, Operators),
    "function-mode": partial(seen_by, Functions),
    "device-mode": partial(seen_by, lambda: torch.device("cpu")),
    "anomaly-mode": anomalous,
    "inference-mode": inferred,
    "deterministic": deterministic,
    "save-on-cpu": offloaded,
    "hooks-to-arrays": partial(hooked, pack=lambda t: t.numpy(force=True).copy(), unpack=torch.from_numpy),
    "hooks-to-sparse": partial(
        hooked, pack=lambda t: t.detach().to_sparse() if t.is_floating_point() else t, unpack=lambda t: t.to_dense()
    ),
    "checkpoint": lambda f, x: gradient(lambda z: checkpoint(f, z, use_reentrant=False), x),
    "checkpoint-reentrant": reentrant,
    "checkpoint-selective": selected,
    "subclass": lambda f, x: f(x.as_subclass(Sub)).as_subclass(Tensor),
    "negated": lambda f, x: gradient(lambda z: f(torch._neg_view(z)), x),
    "expanded": lambda f, x: gradient(lambda z: f(z[:1].expand_as(z)), x),
}
NETWORKS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "none": (rnnnorm.LSTM, "none", {}),
    "ln": (rnnnorm.LSTM, "ln", {}),
    "ln-both": (rnnnorm.LSTM, "ln", {"num_layers": 2, "bidirectional": True}),
    "bn-timestep": (rnnnorm.LSTM, "bn-timestep", {}),
    "bn-star": (rnnnorm.LSTM, "bn-star", {}),
    "gru": (rnnnorm.GRU, "none", {}),
}


def outcome(situation: str, network: str, backend: str, training: bool) -> tuple[Tensor, Any]:
    cls, norm, options = NETWORKS[network]
    torch.manual_seed(1)
    module = cls(INPUT, HIDDEN, norm=norm, backend=backend, dtype=torch.float64, **options).train(training)
    x = torch.randn(3, 2, INPUT, dtype=torch.float64, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anomaly mode, batching rules that torch lacks, sparse tensors
        return SITUATIONS[situation](lambda z: module(z)[0], x), module


TURNS = ("none", ("ln", "ln-both"), ("bn-star", "bn-timestep"), "gru")
"""A network of each backend and of each kind of statistics, for every situation; of pairs each for every other one."""
PAIRED = [
    (situation, turn if isinstance(turn, str) else turn[k % 2])
    for k, situation in enumerate(SITUATIONS)
    for turn in TURNS
]


@pytest.mark.parametrize(("situation", "network"), PAIRED)
def test_situations(situation: str, network: str) -> None:
    """As by the reference; batch normalization with stored statistics, since torch moves none under transforms."""
    expected, _ = outcome(situation, network, "reference", False)
    actual, _ = outcome(situation, network, "auto", False)
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-10)


MOVING = [
    name for name in SITUATIONS if not name.startswith(("jacrev", "jacfwd", "func-", "vmap", "make-fx-of-func", "lin"))
]


@pytest.mark.parametrize("network", ["bn-timestep", "bn-star"])
@pytest.mark.parametrize("situation", [s for s in MOVING if s not in ("jacobian-forward", "checkpoint-selective")])
def test_situations_in_training(situation: str, network: str) -> None:
    """With moments of the batch; stored statistics have moved as by the reference."""
    expected, reference = outcome(situation, network, "reference", True)
    actual, module = outcome(situation, network, "auto", True)
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-10)
    for (name, buffer), other in zip(module.named_buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(buffer, other, msg=lambda m, name=name: f"{name}: {m}")


def test_nobody_looks() -> None:
    assert not transformed()
    with torch.device("cpu"), torch.no_grad(), torch.inference_mode():
        assert not transformed()
    for mode in (Operators, Functions, FakeTensorMode, partial(FlopCounterMode, display=False)):
        with mode():
            assert transformed()
            with apart():
                assert type(torch.ones(2)) is Tensor
        assert not transformed()
    assert torch.vmap(lambda x: x + transformed())(torch.zeros(2)).tolist() == [1, 1]


def test_hooks_that_lose_digits() -> None:
    """What forward keeps is packed as numbers, like any activation: half the digits give half the accuracy."""
    lstm = rnnnorm.LSTM(INPUT, HIDDEN, norm="ln", dtype=torch.float64)
    x = torch.randn(6, 3, INPUT, dtype=torch.float64, requires_grad=True)
    exact = gradient(lambda z: lstm(z)[0], x)
    rounded = hooked(lambda z: lstm(z)[0], x, pack=lambda t: t.float(), unpack=lambda t: t.double())
    torch.testing.assert_close(rounded, exact, rtol=1e-4, atol=1e-5)
    with pytest.raises((RuntimeError, ValueError), match="expected contiguous"):
        hooked(lambda z: lstm(z)[0], x, pack=lambda t: t, unpack=lambda t: t.flatten()[:1])


def test_flops_are_counted() -> None:
    """Those of the products: what is compiled would count for nothing."""
    T, B, gates = 6, 3, 4 * HIDDEN
    for module in (rnnnorm.LSTM(INPUT, HIDDEN), rnnnorm.LSTM(INPUT, HIDDEN, norm="ln")):
        with FlopCounterMode(display=False) as counter:
            module(torch.randn(T, B, INPUT))
        assert counter.get_total_flops() == 2 * T * B * gates * (INPUT + HIDDEN)


NEEDS_VALUES = {"streaming", "power", "brn", "cmbn-accumulated", "cbn"}
"""Presets whose training asks what the values are."""


def shapes(module: Any, x: Tensor, **options: Any) -> tuple[torch.Size, ...]:
    output, state = module(x, **options)
    states = state if isinstance(state, tuple) else (state,)
    (output.sum() + sum(s.sum() for s in states)).backward()
    assert {t.device for t in (output, *states)} == {x.device}
    assert all(p.grad is None or p.grad.shape == p.shape for p in module.parameters())
    return output.shape, *(s.shape for s in states)


@pytest.mark.parametrize("cell", [rnnnorm.LSTM, rnnnorm.GRU, rnnnorm.RNN])
@pytest.mark.parametrize("norm", PRESETS)
def test_meta_device(norm: str, cell: Any) -> None:
    """Shapes without numbers, for every preset that can be trained without looking at values."""
    T, B = 3, 4
    for D, lengths in ((2, torch.tensor([3, 1, 2, 3])), (1, None))[: 2 if cell is rnnnorm.LSTM else 1]:
        try:
            module = cell(INPUT, HIDDEN, norm=norm, device="meta", bidirectional=D == 2)
        except ValueError as error:
            pytest.skip(str(error))  # not for this cell
        for training in (False, True):
            if not training or norm not in NEEDS_VALUES:
                output, *states = shapes(
                    module.train(training), torch.empty(T, B, INPUT, device="meta"), lengths=lengths
                )
                assert output == (T, B, D * HIDDEN)
                assert set(states) == {(D, B, HIDDEN)}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_fake_tensors(training: bool, network: str) -> None:
    """As one estimates memory before there is any."""
    cls, norm, options = NETWORKS[network]
    expected = shapes(cls(INPUT, HIDDEN, norm=norm, **options).train(training), torch.randn(6, 3, INPUT))
    with FakeTensorMode():
        module = cls(INPUT, HIDDEN, norm=norm, **options).train(training)
        x = torch.randn(6, 3, INPUT)
        assert not has_numbers(x)
        assert shapes(module, x) == expected
        assert not has_numbers(module(x)[0])
