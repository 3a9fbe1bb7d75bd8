"""A recurrent network as one operator of its arguments, for whoever looks into operators: compilers and exporters.

A compiler has nothing to gain inside a recurrence (unrolled, its compilation takes minutes) and could not see into
compiled scans anyway. The operator is a function: weights, gains, statistics and the seed of what is random are
arguments, moved statistics are results, and what kind of network it is say two texts (`rnnnorm.skeleton`). So it can be
saved and loaded elsewhere, computed again, given other weights, and left out if nobody uses it.

What a forward pass leaves for its backward pass stays here under a ticket, a tensor that lives as long as the graph
that may ask for it. Whoever comes without a valid ticket gets the same gradients, from another forward pass.
"""

from __future__ import annotations

import random
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._C import DispatchKey
from torch._subclasses import FakeTensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import _disable_current_modes

from .borders import enter, enter_states, leave, leave_states
from .equations import draw_seed, seeded
from .norms import Normalizer
from .norms.buffers import first_pass
from .ragged import Packed, check_packed
from .settings import listened_to
from .skeleton import skeleton, told

if TYPE_CHECKING:
    from .stack import RecurrentStack

Tensors = list[Tensor]


def applies(input: object) -> bool:
    """Whether somebody looks on who is to see one operator."""
    data = input.data if isinstance(input, PackedSequence) else input
    return torch.compiler.is_compiling() or isinstance(data, FakeTensor)


class Told(NamedTuple):
    """What the operator is told of a network.

    Args:
        settings: layout of the weights; then, line by line, each module's path, the names of its tensors that are
            there, and its settings.
        parameters: weights, layer by layer, and the parameters of the modules inside.
        buffers: theirs.
        constants: population statistics.
    """

    settings: str
    parameters: Tensors
    buffers: Tensors
    constants: Tensors


def tell(stack: RecurrentStack) -> Told:
    """What is to be told of a network as it is now; a compiler follows every line, and watches what it reads."""
    parameters: Tensors = []
    for suffix in stack.all_suffixes():
        weights = stack.read_weights(suffix)
        parameters += weights.tensors()
    biases, projected, inside, peepholes = weights.layout
    lines = [f"{biases}{int(projected)}{int(inside)}{int(peepholes)}", f"||{stack._settings}"]
    buffers: Tensors = []
    constants: Tensors = []
    modules = dict(stack.named_modules())
    for path, _, *names in stack.insides:
        module = modules.get(path)
        if module is None:
            continue
        present = []
        for group, tensors in zip(names, (parameters, buffers, constants), strict=True):
            for name in group:
                value = getattr(module, name, None)
                if value is not None:
                    present.append(name)
                    tensors.append(value)
        lines.append(f"{path}|{','.join(present)}|{module._settings}")
    return Told("\n".join(lines), parameters, buffers, constants)


def obstacle(stack: RecurrentStack) -> str:
    """Why a network cannot be one operator as it is now; "" if it can."""
    if _transformed():
        return "a function transform looks into it"
    if not stack.architecture:
        return "its norm or cell has options that are no numbers and words"
    if listened_to(stack, hooks=False):
        return "one of its methods is replaced"
    modules = dict(stack.named_modules())
    for path, kind, _, buffers, _ in stack.insides:
        module = modules.get(path)
        if module is None:
            continue
        if type(module).__qualname__ != kind:
            return f"{path} was built as a {kind}, and is something else now"
        if listened_to(module):
            return f"somebody listens at {path}"
        if module.training and getattr(module, "learns_backward", False):
            return f"the backward pass of {path} moves statistics"
        if module.training:
            for name in getattr(module, "late", ()):
                if name in buffers and getattr(module, name, None) is None:
                    return f"{path} learns the shape of its statistics from the first batch"
    return ""


@torch._dynamo.assume_constant_result  # type: ignore[untyped-decorator]
def _transformed() -> bool:
    return torch._C._functorch.peek_interpreter_stack() is not None


def run_eagerly(network: Any, reason: str, input: Any, hx: Any, lengths: Any) -> Any:
    """A network's `forward` outside of the graph that is being made.

    Raises:
        RuntimeError: there is no outside, as in an export.
    """
    if not torch.compiler.is_dynamo_compiling() or torch.compiler.is_exporting():
        raise RuntimeError(f"this {type(network).__name__} cannot be exported as it is: {reason}")
    further = {} if lengths is None else {"lengths": lengths}
    return outside(network, input, hx, **further)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def outside(module: Any, *arguments: Any, **keys: Any) -> Any:
    """A call of a module outside of the graph that is being made."""
    return module(*arguments, **keys)


def keeps_python(norm: nn.Module) -> bool:
    """Whether a normalizer keeps more than tensors from step to step, or moves some in the backward pass."""
    if not isinstance(norm, Normalizer):
        return True
    return not norm.memoryless or (norm.training and (norm.remembers_batches or norm.learns_backward))


def run(
    stack: RecurrentStack, data: Tensor, sizes: Tensor | None, states: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All layers as one operator.

    Args:
        stack: the network.
        data: packed rows (N, F), or padded sequences (T, B, F).
        sizes: `batch_sizes` (T,) of packed rows; lengths (B,) of padded sequences; None: all of length T.
        states: initial states (layers·directions, B, ·), of packed rows in packed order; none: zeros.

    Returns:
        Outputs as the input is, (N, ·) or (T, B, ·), and last states.
    """
    now = tell(stack)
    graph = torch.is_grad_enabled()
    wanted = [graph and t.requires_grad for t in (data, *states, *now.parameters)]
    kind = data.device.type
    autocast = str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else ""
    seed = draw_seed() if stack.draws() else None
    # Copies: what is read now will have moved when a backward pass without a ticket wants to read it again.
    before = [b.clone() for b in now.buffers] if stack.training else now.buffers
    results = _run(
        stack.architecture, now.settings, autocast, wanted, stack.training,
        data, sizes, seed, list(states), now.parameters, before, now.constants,
    )  # fmt: skip
    count = 1 + len(stack.state_sizes)
    if stack.training:
        for old, new in zip(now.buffers, results[count:-1], strict=True):
            old.copy_(new.detach())
    return results[0], tuple(results[1:count])


class _Waiting(NamedTuple):
    """What a forward pass leaves: the tensors that entered it, and those that left it with their graph."""

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
    states: Tensors
    parameters: Tensors
    buffers: Tensors
    constants: Tensors

    def compute(self) -> tuple[_Waiting, Tensors]:
        """One forward pass: what it leaves, and the buffers as they are afterwards."""
        low = getattr(torch, self.autocast.removeprefix("torch.")) if self.autocast else None
        device = self.data.device
        with (
            _recording(any(self.wanted)),
            torch.autocast(device.type, low, enabled=low is not None),
            first_pass(),
            seeded(self.seed, device),
        ):
            tensors = [self.data, *self.states, *self.parameters]
            entering = [t.detach().requires_grad_(want) for t, want in zip(tensors, self.wanted, strict=True)]
            buffers = [_own(b.detach()) if self.training else b.detach() for b in self.buffers]
            count = 1 + len(self.states)
            given = entering[count:], buffers, [c.detach() for c in self.constants]
            with skeleton(self.architecture, self.settings, *given) as network:
                leaving = _inside(network, entering[0], self.sizes, entering[1:count])
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
    "Tensor? seed, Tensor[] states, Tensor[] parameters, Tensor[] buffers, Tensor[] constants"
)


@torch.library.custom_op("rnnnorm::run", mutates_args=(), schema=f"({_SCHEMA}) -> Tensor[]")
def _run(*arguments: Any) -> Tensors:
    call = _Call(*arguments)
    kept, buffers = call.compute()
    ticket = np.zeros(1, np.int64)
    if any(call.wanted):
        ticket[0] = number = _numbers.randrange(1, 2**63)
        _waiting[number] = kept
        weakref.finalize(ticket, _waiting.pop, number, None).atexit = False
    # Whoever gets them may write into them, and what goes on below an operator is no graph to those above it.
    return [*(_own(t.detach()) for t in kept.leaving), *buffers, torch.from_numpy(ticket)]


@_run.register_fake
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
        call = _Call(architecture, settings, autocast, wanted, False, data, sizes, None, given, *groups)
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
    found = iter(_run_backward(ticket, list(gradients[: ctx.leaving]), *call))
    d_data, *others = [next(found) if want else None for want in call.wanted]
    states, parameters = others[: len(groups[0])], others[len(groups[0]) :]
    return (None,) * 5 + (d_data, None, None, states, parameters, [None] * len(groups[2]), [None] * len(groups[3]))


_run.register_autograd(_differentiate, setup_context=_keep)
