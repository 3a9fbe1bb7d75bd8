"""Runs of a stack for its normalizers alone, all layers step by step: states are kept, outputs are not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..equations import Layer, dropout
from ..norms import BatchNorm, Normalizer
from ..norms.recorder import Rows
from ..norms.synchronized import SynchronizedNormalizer
from ..packing import reversal
from ..scan.fold import fold
from ..scan.plan import place_of
from .stack import RecurrentStack

LIMIT = 2**29
"""Bytes of pre-activations from which on a run goes step by step."""


def stream(stack: RecurrentStack, rows: Rows, limit: int = LIMIT) -> bool:
    """Run a stack over rows without keeping what comes out, as far as that saves memory.

    Step t of all layers comes before step t + 1, so that nothing but states is kept between steps. Where a layer needs
    all rows of its input at once, because it has two directions or sequence-wise statistics, the input is kept, (N, F).
    What enters the normalizers is what enters them in `RecurrentStack.run_layers`, in the same order.

    Args:
        stack: layers and directions.
        rows: what enters the first layer.
        limit: bytes of one layer's pre-activations up to which nothing is done.

    Returns:
        whether it was done; False where the run is small, or a normalizer has its own way over whole sequences.
    """
    N = rows.data.shape[0]
    if N * stack.cell.gates * stack.hidden_size * rows.data.element_size() <= limit or not _covers(stack):
        return False
    sizes: list[int] = rows.batch_sizes.tolist()
    D, last = stack.num_directions, stack.num_layers - 1
    each = list(zip(*(state.unbind() for state in rows.states), strict=True))
    flow: Iterable[Tensor] = rows.data.split_with_sizes(sizes)
    whole: Tensor | None = rows.data
    for layer in range(stack.num_layers):
        states = each[layer * D : (layer + 1) * D]
        between = stack.between(layer)
        norm = stack.norms(stack.suffixes(layer)[0]).input
        if D == 1:
            if _whole(norm):
                whole = torch.cat(list(flow)) if whole is None else whole
                flow = whole.split_with_sizes(sizes)
            flow, whole = _layer(stack, layer, flow, whole, states[0]), None
            if _whole(between) and layer < last:
                assert between is not None
                whole = between.sequence(torch.cat(list(flow)), sizes)
                flow = whole.split_with_sizes(sizes)
            continue
        whole = torch.cat(list(flow)) if whole is None else whole
        whole = _two_directions(stack, layer, whole, rows.batch_sizes, states, layer < last)
        flow = () if whole is None else whole.split_with_sizes(sizes)
    for _ in flow:
        pass
    return True


def _whole(norm: Normalizer | None) -> bool:
    """Whether statistics are taken over the rows of all steps at once."""
    return getattr(norm, "scope", "") == "sequence"


def _covers(stack: RecurrentStack) -> bool:
    """Whether sequence-wise statistics, if any, can be had from covariances, skips and the norm of emitted rows stay
    inside a step, and no other process has to be met at each step.
    """
    inputs = [stack.norms(s).input for s in stack.all_suffixes()]
    emitted = [norm for s in stack.all_suffixes() if (norm := stack.emitted(s)) is not None]
    between = any(_whole(stack.between(layer)) for layer in range(stack.num_layers))
    skips = any(stack.skip(layer) is not None for layer in range(stack.num_layers))
    alone = not any(isinstance(m, SynchronizedNormalizer) and m.synchronizes() for m in stack.modules())
    known = all(type(norm) is BatchNorm and norm.fusible() is not None for norm in inputs if _whole(norm))
    by_step = all(norm.memoryless and not _whole(norm) for norm in emitted)
    return alone and known and by_step and not (between and skips)


def _layer(
    stack: RecurrentStack,
    layer: int,
    flow: Iterable[Tensor],
    whole: Tensor | None,
    states: tuple[Tensor, ...],
) -> Iterator[Tensor]:
    """The rows that leave a layer of one direction, step by step; a norm of whole sequences is left out."""
    inputs: list[Tensor] = []

    def seen() -> Iterator[Tensor]:
        for x in flow:
            inputs[:] = [x]
            yield x

    def normalized(norm: Normalizer, rows: Tensor, t: int) -> Tensor:
        return rows if _whole(norm) else norm(rows, t)

    for t, h in enumerate(_direction(stack, stack.suffixes(layer)[0], seen(), whole, states)):
        yield stack.leave_layer(inputs[0], h, [], layer, normalize=partial(normalized, t=t))


def _two_directions(
    stack: RecurrentStack,
    layer: int,
    whole: Tensor,
    batch_sizes: Tensor,
    states: list[tuple[Tensor, ...]],
    wanted: bool,
) -> Tensor | None:
    """The rows that leave a layer of two directions, (N, F), if they are wanted."""
    sizes: list[int] = batch_sizes.tolist()
    turn = reversal(batch_sizes).to(whole.device)
    outputs = []
    for suffix, state, seen in zip(stack.suffixes(layer), states, (whole, whole[turn]), strict=True):
        steps = _direction(stack, suffix, seen.split_with_sizes(sizes), seen, state)
        if wanted:
            outputs.append(torch.cat(list(steps)))
        else:
            for _ in steps:
                pass
    return stack.leave_layer(whole, torch.cat([outputs[0], outputs[1][turn]], 1), sizes, layer) if wanted else None


def _direction(
    stack: RecurrentStack, suffix: str, flow: Iterable[Tensor], whole: Tensor | None, states: tuple[Tensor, ...]
) -> Iterator[Tensor]:
    """The outputs of one layer and direction, step by step."""
    run = stack.ready_layer(suffix, states[0])
    gates_x = _input_product(run, whole)
    mask = None
    if stack.variational_dropout and stack.training:
        mask = dropout(states[0].new_ones(states[0].shape[0], run.weights.W_ih.shape[1]), stack.variational_dropout)
    emitted = stack.emitted(suffix)
    run.norms.reset_sequence()
    for t, x in enumerate(flow):
        active = x.shape[0]
        states = tuple(state[:active] for state in states)
        states = run.step(gates_x(x if mask is None else x * mask[:active], t), states, t)
        yield states[0] if emitted is None else emitted(states[0], t)
    run.norms.reset_sequence()


def _input_product(run: Layer, whole: Tensor | None) -> Callable[[Tensor, int], Tensor]:
    """The function from the rows of a step to N_input(W_ih x_t) + b."""
    if not _whole(run.norms.input):
        return run.gates_x_at
    assert whole is not None
    place = place_of(run.norms.input)
    assert place is not None
    W, b = fold(place, whole, run.weights.W_ih, run.split[0])
    return lambda x, t: F.linear(x, W, b)
