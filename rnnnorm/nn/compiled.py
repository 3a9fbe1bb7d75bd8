"""Compilation: a recurrent network as one operator, for `torch.compile` and `torch.export`.

A compiler has nothing to gain inside a recurrence (unrolled, compilation takes minutes) and cannot trace compiled scans
anyway. The operator is a pure function: weights, gains, statistics and the random seed are arguments, updated
statistics are results, and two texts describe the network (`rnnnorm.nn.skeleton`). So a graph can be saved and loaded
elsewhere, recomputed, given other weights, and the operator left out where its result is not used.

This file is traced by the compiler; the operator itself is in `rnnnorm.nn.operator`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from ..common.settings import Settings, listened_to
from ..equations import draw_seed
from ..norms import NORMALIZERS, Normalizer
from .operator import run_network
from .stack import RecurrentStack

Tensors = list[Tensor]


class Told(NamedTuple):
    """Description of a network as arguments of the operator.

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
    """The description of a network as it is now; a compiler traces every line and guards what it reads."""
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
    """The reason why a network cannot be one operator as it is now; "" if it can."""
    if _transformed():
        return "a function transform looks into it"
    if not stack.architecture:
        return "its norm or cell has options that are no numbers and words"
    for option, value in stack.cell_options:
        if getattr(stack.cell, option) != value:
            return f"the {option} of its cell has changed"
    if listened_to(stack, hooks=False):
        return "one of its methods or options is replaced"
    modules = dict(stack.named_modules())
    places = dict(stack.named_modules(remove_duplicate=False))
    for path, kind, parameters, buffers, _ in stack.insides:
        module = modules.get(path)
        if module is None:
            if path in places:
                return f"what stands at {path} stands elsewhere, too"
            continue
        if type(module).__qualname__ != kind:
            return f"{path} was built as a {kind}, and is something else now"
        if isinstance(module, Normalizer) and NORMALIZERS.get(module.name) is not type(module):
            return f"{kind} at {path} has been defined anew"
        if listened_to(module):
            return f"somebody listens at {path}, or has replaced one of its methods or options"
        for name, child in module._modules.items():
            if child is not None and not isinstance(child, Settings):
                return f"{path}.{name} is a {type(child).__name__}, whose tensors are not told"
        for group, known in ((module._parameters, parameters), (module._buffers, buffers)):
            for name in group:
                if name not in known and name.rpartition("_")[0] not in known:  # pruning makes others of a known one
                    return f"{path}.{name} was not there when the network was built"
        if module.training and getattr(module, "learns_backward", False):
            return f"the backward pass of {path} moves statistics"
        if module.training and getattr(module, "penalizes", False):
            return f"{path} adds to the loss"
        if module.training:
            for name in getattr(module, "late", ()):
                if name in buffers and getattr(module, name, None) is None:
                    return f"{path} learns the shape of its statistics from the first batch"
    return ""


def _transformed() -> bool:
    return torch._C._functorch.peek_interpreter_stack() is not None


# What `torch._dynamo.assume_constant_result` does, without the compiler, whose import takes longer than torch's.
_transformed._dynamo_marked_constant = True  # type: ignore[attr-defined]


def run_eagerly(network: Any, reason: str, input: Any, hx: Any, lengths: Any) -> Any:
    """A network's `forward` outside of the graph that is being made.

    Raises:
        RuntimeError: there is no outside, as in an export.
    """
    if not torch.compiler.is_dynamo_compiling() or torch.compiler.is_exporting():
        raise RuntimeError(f"this {type(network).__name__} cannot be exported as it is: {reason}")
    further = {} if lengths is None else {"lengths": lengths}
    return outside(network, input, hx, **further)


@_disable_dynamo  # `torch.compiler.disable`, but it imports the compiler when called, not with this file
def outside(module: Any, *arguments: Any, **keys: Any) -> Any:
    """A call of a module outside of the graph that is being made."""
    return module(*arguments, **keys)


def keeps_python(norm: nn.Module) -> bool:
    """Whether a normalizer keeps more than tensors from step to step, or acts in the backward pass."""
    if not isinstance(norm, Normalizer):
        return True
    moving = norm.remembers_batches or norm.learns_backward or norm.penalizes
    return not norm.memoryless or (norm.training and moving)


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
    ragged = data.dim() == 3 and sizes is not None
    seed = draw_seed() if stack.draws(ragged) else None
    masks: Tensors = []
    if stack.drops_rows() and not ragged:
        ones = data.new_ones(*data.shape[:-1], stack.output_size)
        masks = [F.dropout(ones, stack.dropout) for _ in range(stack.num_layers - 1)]
    modules = dict(stack.named_modules())
    moves = stack.training or any(modules[path].training for path, *_ in stack.insides if path in modules)
    # Copies: what is read now will have moved when a backward pass without a ticket wants to read it again.
    before = [b.clone() for b in now.buffers] if moves else now.buffers
    results = run_network(
        stack.architecture, now.settings, autocast, wanted, moves,
        data, sizes, seed, masks, list(states), now.parameters, before, now.constants,
    )  # fmt: skip
    count = 1 + len(stack.state_sizes)
    if moves:
        for old, new in zip(now.buffers, results[count:-1], strict=True):
            old.copy_(new.detach())
    return results[0], tuple(results[1:count])
