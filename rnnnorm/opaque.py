"""All layers of a recurrent network as one operator, so that `torch.compile(fullgraph=True)` passes it by as it is.

The compiler has nothing to gain inside a recurrence (unrolled, its compilation takes minutes) and could not see into
compiled scans anyway. What a forward pass leaves for its backward pass stays here under a ticket, a tensor that lives
as long as the graph that may ask for it.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch._C import DispatchKey


class Runner(Protocol):
    """A module that can run packed rows through all of its layers."""

    @property
    def output_size(self) -> int:
        """Features per output row."""
        ...

    def run_layers(
        self, data: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Output rows (N, output_size) and last states."""
        ...


_runners: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_waiting: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
_numbers = itertools.count(1)


@contextmanager
def _recording(save: bool) -> Iterator[None]:
    """Let autograd see what is done inside an operator, which lies below it."""
    keys = torch._C._dispatch_tls_local_exclude_set()
    for key in (
        DispatchKey.AutogradCPU,
        DispatchKey.AutogradCUDA,
        DispatchKey.AutogradOther,
        DispatchKey.ADInplaceOrView,
    ):
        keys = keys.remove(key)
    with (
        torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), keys),
        torch.set_grad_enabled(save),
    ):
        yield


class Handle:
    """The number under which the operator finds a module as long as it lives; a copy of the module gets another one."""

    def __init__(self, runner: Runner) -> None:
        self.number = next(_numbers)
        self._runner = weakref.ref(runner)
        _runners[self.number] = runner

    def __deepcopy__(self, memo: dict[int, Any]) -> Handle | None:
        """The handle of the copy that is being made of the module."""
        copy = memo.get(id(self._runner()))
        return None if copy is None else Handle(copy)

    def __reduce__(self) -> Any:
        """Nothing: what is unpickled or copied must make its own."""
        return type(None), ()


def run(
    handle: Handle, data: Tensor, batch_sizes: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What `Runner.run_layers` returns, as one operator."""
    tensors = [data, *states, *parameters]
    save = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    output, *last, _ = _run(handle.number, save, data, batch_sizes, list(states), list(parameters))
    return output, tuple(last)


@torch.library.custom_op("rnnnorm::run", mutates_args=())
def _run(
    number: int, save: bool, data: Tensor, batch_sizes: Tensor, states: list[Tensor], parameters: list[Tensor]
) -> list[Tensor]:
    runner = _runners[number]
    with _recording(save):
        # The module computes with its own parameters; those in the arguments are the same ones, named for the compiler.
        entering = [t.detach().requires_grad_(save) for t in (data, *states)]
        output, last = runner.run_layers(entering[0], batch_sizes, tuple(entering[1:]))
    ticket = np.array([next(_numbers)])
    if save:
        key = int(ticket[0])
        _waiting[key] = (entering + list(runner.parameters()), [output, *last])
        weakref.finalize(ticket, _waiting.pop, key, None).atexit = False
    return [*(t.detach().clone() for t in (output, *last)), torch.from_numpy(ticket)]


@_run.register_fake
def _(
    number: int, save: bool, data: Tensor, batch_sizes: Tensor, states: list[Tensor], parameters: list[Tensor]
) -> Any:
    output = data.new_empty(data.shape[0], _runners[number].output_size)
    return [output, *(torch.empty_like(s) for s in states), torch.empty(1, dtype=torch.int64)]


@torch.library.custom_op("rnnnorm::run_backward", mutates_args=())
def _run_backward(
    ticket: Tensor, gradients: list[Tensor], data: Tensor, states: list[Tensor], parameters: list[Tensor]
) -> list[Tensor]:
    entering, leaving = _waiting[int(ticket)]
    wanted = [t for t in entering if t.requires_grad]
    pairs = [(t, g) for t, g in zip(leaving, gradients, strict=True) if t.requires_grad]
    with _recording(True):
        found = torch.autograd.grad(
            [t for t, _ in pairs], wanted, [g for _, g in pairs], retain_graph=True, allow_unused=True
        )
    by_tensor = dict(zip(map(id, wanted), found, strict=True))
    results = [by_tensor.get(id(t)) for t in entering]
    return [torch.zeros_like(t) if g is None else g.clone() for t, g in zip(entering, results, strict=True)]


@_run_backward.register_fake
def _(ticket: Tensor, gradients: list[Tensor], data: Tensor, states: list[Tensor], parameters: list[Tensor]) -> Any:
    return [torch.empty_like(t) for t in (data, *states, *parameters)]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    _, _, data, _, states, parameters = inputs
    ctx.states = len(states)
    ctx.save_for_backward(output[-1], data, *states, *parameters)


def _differentiate(ctx: Any, gradients: list[Tensor]) -> Any:
    ticket, data, *rest = ctx.saved_tensors
    states, parameters = rest[: ctx.states], rest[ctx.states :]
    d_data, *others = _run_backward(ticket, list(gradients[:-1]), data, states, parameters)
    return None, None, d_data, None, others[: ctx.states], others[ctx.states :]


_run.register_autograd(_differentiate, setup_context=_keep)
