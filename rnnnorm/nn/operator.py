"""The operator `rnnnorm::run`: a forward pass as a function of tensors and texts, and its backward pass.

Saved tensors are kept here under an integer key, which a tensor of the autograd graph holds: they live as long as that
graph. A backward pass without a valid key computes the same gradients from another forward pass.
"""

from __future__ import annotations

import random
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch._C import DispatchKey
from torch.utils._python_dispatch import _disable_current_modes

from ..equations import seeded
from ..norms.base import first_pass
from ..packing import Packed, check_packed
from .inputs import enter, enter_states, leave, leave_states
from .skeleton import keep_assigned, skeleton, told
from .stack import RecurrentStack

Tensors = list[Tensor]


class _Waiting(NamedTuple):
    """Saved tensors of a forward pass: its inputs, and its outputs with their graph."""

    entering: Tensors
    leaving: Tensors


_waiting: dict[int, _Waiting] = {}
_numbers = random.SystemRandom()


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


class _Call(NamedTuple):
    """The arguments of the operator."""

    architecture: str
    settings: str
    autocast: str
    wanted: Sequence[bool]
    training: bool
    data: Tensor
    sizes: Tensor | None
    seed: Tensor | None
    masks: Tensors
    states: Tensors
    parameters: Tensors
    buffers: Tensors
    constants: Tensors

    def compute(self) -> tuple[_Waiting, Tensors]:
        """One forward pass: its saved tensors, and the buffers as they are afterwards."""
        low = getattr(torch, self.autocast.removeprefix("torch.")) if self.autocast else None
        device = self.data.device
        with (
            _recording(any(self.wanted)),
            torch.autocast(device.type, low, enabled=low is not None),
            first_pass(),
            seeded(self.seed, device, self.data.dim() == 3 and self.sizes is not None, self.masks),
        ):
            tensors = [self.data, *self.states, *self.parameters]
            entering = [t.detach().requires_grad_(want) for t, want in zip(tensors, self.wanted, strict=True)]
            buffers = [_own(b.detach()) if self.training else b.detach() for b in self.buffers]
            count = 1 + len(self.states)
            given = entering[count:], buffers, [c.detach() for c in self.constants]
            with skeleton(self.architecture, self.settings, *given) as network:
                leaving = _inside(network, entering[0], self.sizes, entering[1:count])
                if self.training:
                    keep_assigned(network, self.settings, buffers)
        if low is not None:
            torch.clear_autocast_cache()  # ours, which would stay as long as the caller's block
        return _Waiting(entering, leaving), buffers if self.training else []


def _inside(network: RecurrentStack, data: Tensor, sizes: Tensor | None, states: Tensors) -> Tensors:
    """Output and last states."""
    if data.dim() == 2:
        assert sizes is not None
        check_packed(data.shape[0], sizes)
        packed = Packed(data, sizes)
    else:
        packed = enter(data, sizes, network.input_size, batch_first=False)
    if states:
        given = enter_states(states, network.cell.states, network.state_sizes, network.num_states, packed, False)
    else:
        given = network.zero_states(packed.data, network.num_states, packed.sequences)
    rows, last = network.run_layers(packed.data, packed.batch_sizes, given)
    if data.dim() == 2:
        return [rows, *last]
    output = leave(data, sizes, packed, rows, batch_first=False)
    assert isinstance(output, Tensor)
    return [output, *leave_states(last, packed, False)]


def _own(t: Tensor) -> Tensor:
    """A copy that lies in memory as `_like` says."""
    return t.clone(memory_format=torch.contiguous_format)


def _like(t: Tensor) -> Tensor:
    return torch.empty_like(t, memory_format=torch.contiguous_format)


_SCHEMA = (
    "str architecture, str settings, str autocast, bool[] wanted, bool training, Tensor data, Tensor? sizes, "
    "Tensor? seed, Tensor[] masks, Tensor[] states, Tensor[] parameters, Tensor[] buffers, Tensor[] constants"
)


@torch.library.custom_op("rnnnorm::run", mutates_args=(), schema=f"({_SCHEMA}) -> Tensor[]")
def run_network(*arguments: Any) -> Tensors:
    """Output, last states, moved buffers (none in evaluation) and the ticket; arguments as in `_Call`."""
    call = _Call(*arguments)
    if torch.is_inference_mode_enabled():  # there is no graph to leave anything for
        call = call._replace(wanted=[False] * len(call.wanted))
    kept, buffers = call.compute()
    ticket = np.zeros(1, np.int64)
    if any(call.wanted):
        ticket[0] = number = _numbers.randrange(1, 2**63)
        _waiting[number] = kept
        weakref.finalize(ticket, _waiting.pop, number, None).atexit = False
    # Whoever gets them may write into them, and what goes on below an operator is no graph to those above it.
    return [*(_own(t.detach()) for t in kept.leaving), *buffers, torch.from_numpy(ticket)]


@run_network.register_fake
def _(*arguments: Any) -> Tensors:
    call = _Call(*arguments)
    data, say = call.data, told(call.architecture)
    if call.states:
        B: Any = call.states[0].shape[1]
    else:
        B = data.shape[1] if data.dim() == 3 else torch.library.get_ctx().new_dynamic_size()
    kinds = _kinds(call)
    sizes = zip(say["state_sizes"], kinds[1:], strict=True)
    last = [data.new_empty(say["num_states"], B, size, dtype=kind) for size, kind in sizes]
    output = data.new_empty(*data.shape[:-1], say["output_size"], dtype=kinds[0])
    buffers = [_like(b) for b in call.buffers] if call.training else []
    return [output, *last, *buffers, torch.empty(1, dtype=torch.int64)]


def _kinds(call: _Call) -> Sequence[torch.dtype]:
    """Types of output and last states. Under autocast they depend on the equations: one step over zeros shows them."""
    if not call.autocast:
        return [call.data.dtype] * (1 + len(told(call.architecture)["state_sizes"]))
    groups = [call.parameters, call.buffers, call.constants]
    like = tuple(tuple((tuple(int(n) for n in t.shape), t.dtype) for t in group) for group in groups)
    states = tuple((int(s.shape[0]), int(s.shape[2]), s.dtype) for s in call.states)
    device = call.data.device.type
    return _kinds_of(call.architecture, call.settings, call.autocast, device, call.data.dtype, states, like)


@lru_cache(256)
def _kinds_of(
    architecture: str, settings: str, autocast: str, device: str, dtype: torch.dtype, states: Any, like: Any
) -> list[torch.dtype]:
    with _disable_current_modes(), torch.no_grad():
        groups = [[torch.zeros(shape, dtype=kind, device=device) for shape, kind in group] for group in like]
        data = torch.zeros(2, told(architecture)["input_size"], dtype=dtype, device=device)
        given = [torch.zeros(n, 2, size, dtype=kind, device=device) for n, size, kind in states]
        wanted = [False] * (1 + len(given) + len(groups[0]))
        sizes = torch.tensor([2])
        call = _Call(architecture, settings, autocast, wanted, False, data, sizes, None, [], given, *groups)
        return [t.dtype for t in call.compute()[0].leaving]


@torch.library.custom_op(
    "rnnnorm::run_backward", mutates_args=(), schema=f"(Tensor ticket, Tensor[] gradients, {_SCHEMA}) -> Tensor[]"
)
def _run_backward(ticket: Tensor, gradients: Tensors, *arguments: Any) -> Tensors:
    call = _Call(*arguments)
    entering, leaving = _waiting.get(int(ticket)) or call.compute()[0]
    sources = [t for t in entering if t.requires_grad]
    pairs = [(t, g) for t, g in zip(leaving, gradients, strict=True) if t.requires_grad]
    with _recording(True):
        found = torch.autograd.grad(
            [t for t, _ in pairs], sources, [g for _, g in pairs], retain_graph=True, allow_unused=True
        )
    return [
        torch.zeros_like(t, memory_format=torch.contiguous_format) if g is None else _own(g)
        for t, g in zip(sources, found, strict=True)
    ]


@_run_backward.register_fake
def _(ticket: Tensor, gradients: Tensors, *arguments: Any) -> Tensors:
    call = _Call(*arguments)
    tensors = (call.data, *call.states, *call.parameters)
    return [_like(t) for t, want in zip(tensors, call.wanted, strict=True) if want]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
    call = _Call(*inputs)
    ctx.set_materialize_grads(True)
    ctx.words = call[:5]
    ctx.counts = [len(group) for group in call[8:]]
    ctx.leaving = 1 + len(told(call.architecture)["state_sizes"])
    ctx.save_for_backward(output[-1], call.data, call.sizes, call.seed, *(t for group in call[8:] for t in group))


def _differentiate(ctx: Any, gradients: Tensors) -> Any:
    ticket, data, sizes, seed, *rest = ctx.saved_tensors
    remaining = iter(rest)
    groups = [list(islice(remaining, count)) for count in ctx.counts]
    call = _Call(*(*ctx.words, data, sizes, seed, *groups))
    # A saved program may run with other tensors that want gradients than it was made with: that is another pass.
    needs = ctx.needs_input_grad
    wanted = [needs[5], *needs[9], *needs[10]]
    if any(need and not want for need, want in zip(wanted, call.wanted, strict=True)):
        call, ticket = call._replace(wanted=wanted), torch.zeros_like(ticket)
    found = iter(_run_backward(ticket, list(gradients[: ctx.leaving]), *call) if any(call.wanted) else ())
    d_data, *others = [next(found) if want else None for want in call.wanted]
    nothing: list[list[None]] = [[None] * count for count in ctx.counts]
    states, parameters = others[: ctx.counts[1]], others[ctx.counts[1] :]
    return (None,) * 5 + (d_data, None, None, nothing[0], states, parameters, nothing[3], nothing[4])


run_network.register_autograd(_differentiate, setup_context=_keep)
