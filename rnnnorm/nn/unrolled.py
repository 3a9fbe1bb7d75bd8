"""A stack of layers over padded sequences by plain operators, unrolled, for `torch.jit.trace` and ONNX."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..equations import Layer, dropout
from ..norms.statistics import StoredStatistics
from .padded import Grid, check_normalizers, normalize
from .stack import RecurrentStack


def run(
    stack: RecurrentStack, rows: Tensor, grid: Grid, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All layers over the positions (T·B, F) of a padded batch: what `RecurrentStack.run` does over packed rows.

    Returns:
        Output rows (T·B, output_size), with anything in the padding, and the states after each sequence's last step.
    """
    check_normalizers(stack, grid)
    D = stack.num_directions
    each = list(zip(*(state.unbind() for state in states), strict=True))  # per layer and direction
    last: list[tuple[Tensor, ...]] = []
    for layer in range(stack.num_layers):
        seen, outputs = _drop_per_sequence(stack, rows, grid), []
        for direction, suffix in enumerate(stack.suffixes(layer)):
            begin = each[layer * D + direction]
            ready, turned = stack.ready_layer(suffix, begin[0]), grid.turned(seen) if direction else seen
            output, ended = _direction(ready, turned, grid, begin)
            emitted = stack.emitted(suffix)
            output = output if emitted is None else normalize(emitted, output, grid)
            outputs.append(grid.turned(output) if direction else output)
            last.append(ended)
        output = torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]
        rows = stack.leave_layer(rows, output, [], layer, normalize=lambda norm, x: normalize(norm, x, grid))
    vars(stack)["ran"] = "reference"
    return _drop_per_sequence(stack, rows, grid), tuple(torch.stack(parts) for parts in zip(*last, strict=True))


def _direction(layer: Layer, rows: Tensor, grid: Grid, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    norm, bias = layer.norms.input, layer.split[0]
    W = layer.weights.W_ih
    gates = F.linear(rows, W) if norm is None else normalize(norm, rows, grid, W)
    gates = gates if bias is None or layer.norms.joint is not None else gates + bias
    layer.norms.reset_sequence()
    if grid.endless:
        return _loop(layer, grid.by_step(gates), grid, states)
    outputs = []
    for t, gates_x in enumerate(grid.by_step(gates).unbind()):
        new = layer.step(gates_x, states, t)
        if grid.active is not None:
            going_on = grid.active[t]
            new = tuple(torch.where(going_on, after, before) for after, before in zip(new, states, strict=True))
        states = new
        outputs.append(states[0])
    layer.norms.reset_sequence()
    return torch.cat(outputs), states


def _loop(layer: Layer, gates: Tensor, grid: Grid, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The steps of one layer and direction as ONNX's `Scan`, for a number of steps that is left open."""

    def step(states: tuple[Tensor, ...], now: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        t: Any = now[0]
        new = layer.step(now[1], states, t)
        if len(now) > 2:
            new = tuple(torch.where(now[2], after, before) for after, before in zip(new, states, strict=True))
        return tuple(state.clone() for state in new), new[0].clone()  # nothing may be the same tensor twice

    inputs = [torch.arange(grid.steps, device=gates.device).unsqueeze(1), gates]
    inputs += [] if grid.active is None else [grid.active]
    from torch._higher_order_ops.scan import scan  # it imports the compiler, which takes longer than torch

    with _computed(layer):
        last, outputs = scan(step, tuple(state.clone() for state in states), inputs)
    return outputs.flatten(0, 1), last


@contextmanager
def _computed(layer: Layer) -> Iterator[None]:
    """Let population statistics, which are no buffers, be results of operators: `Scan` takes no constants."""
    kept: list[tuple[StoredStatistics, dict[str, Tensor]]] = []
    for statistics in layer.norms.modules():
        if isinstance(statistics, StoredStatistics) and statistics.population_mean is not None:
            kept.append((statistics, {name: getattr(statistics, name) for name in statistics.population}))
    try:
        for statistics, values in kept:
            for name, value in values.items():
                setattr(statistics, name, value.clone())
        yield
    finally:
        for statistics, values in kept:
            for name, value in values.items():
                setattr(statistics, name, value)


def _drop_per_sequence(stack: RecurrentStack, rows: Tensor, grid: Grid) -> Tensor:
    """Dropout with one mask per sequence, the same at all its steps."""
    if not (stack.variational_dropout and stack.training):
        return rows
    positions = grid.by_step(rows)
    return (positions * dropout(torch.ones_like(positions[0]), stack.variational_dropout)).flatten(0, 1)
