"""Networks unrolled over padded sequences by plain operators, for `torch.jit.trace` and `torch.onnx.export`.

Packed rows cannot be had there: how many there are at a step depends on the lengths, which are numbers only when the
graph runs. So all B sequences take all T steps, and those that have ended keep their states. That is the same function
wherever rows are normalized by themselves or by stored statistics; moments of a step's own rows would count the
padding, and are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .norms import Normalizer, StepStatistics
from .ragged import Packed
from .tracing import sizes_are_fixed

if TYPE_CHECKING:
    from .equations import Layer
    from .stack import RecurrentStack


class Grid(NamedTuple):
    """The T·B cells of a padded batch, those of a step together.

    Args:
        steps: T.
        batch: B, which a graph may leave open.
        lengths: (B,), or None where all sequences have T steps.
        active: (T, B, 1), whether a cell is inside its sequence; None likewise.
        mirror: (T, B, 1), the step that comes in the place of each where sequences are turned around within their
            lengths; None likewise.
    """

    steps: int
    batch: int
    lengths: Tensor | None = None
    active: Tensor | None = None
    mirror: Tensor | None = None

    def by_step(self, rows: Tensor) -> Tensor:
        """(T·B, F) → (T, B, F)."""
        return torch.unflatten(rows, 0, (self.steps, self.batch))

    def turned(self, rows: Tensor) -> Tensor:
        """Rows (T·B, F) with each sequence from its last step to its first, and its padding where it was."""
        cells = self.by_step(rows)
        cells = cells.flip(0) if self.mirror is None else cells.gather(0, self.mirror.expand_as(cells))
        return cells.flatten(0, 1)

    def without_padding(self, rows: Tensor) -> Tensor:
        """Rows (T·B, F) with zeros where no sequence is."""
        return rows if self.active is None else torch.where(self.active.flatten(0, 1), rows, 0)


def enter(
    input: Tensor | PackedSequence, lengths: Tensor | None, features: int, batch_first: bool
) -> tuple[Tensor, Grid, Packed]:
    """The cells (T·B, F) of any accepted input, what is known of them, and the order of its sequences.

    Raises:
        TypeError: neither Tensor nor PackedSequence.
        ValueError: a shape that does not fit, lengths below 1 or above T as far as they are known.
        RuntimeError: a PackedSequence on its way to ONNX.
    """
    if isinstance(input, PackedSequence):
        return _enter_packed(input, lengths, features)
    if not isinstance(input, Tensor):
        raise TypeError(f"expected a Tensor or PackedSequence, got {type(input).__name__}")
    with sizes_are_fixed():
        if input.dim() not in (2, 3) or input.shape[-1] != features:
            order = "(B, T, F)" if batch_first else "(T, B, F)"
            raise ValueError(f"expected input {order} or (T, F) with F = {features}, got shape {tuple(input.shape)}")
        if input.dim() == 2:
            if lengths is not None:
                raise ValueError("lengths are given, but the input is unbatched: (T, F)")
            cells = input.unsqueeze(1)
        else:
            cells = input.transpose(0, 1) if batch_first else input
        steps, batch = int(cells.shape[0]), cells.shape[1]
        grid = Grid(steps, batch) if lengths is None else _ragged(steps, batch, lengths, input.device)
    rows = grid.without_padding(cells.flatten(0, 1))  # what stands there may be NaN, and would go into gradients
    return rows, grid, Packed(rows, torch.empty(0), batch=batch)


def _ragged(steps: int, batch: int, lengths: Tensor, device: torch.device) -> Grid:
    """The grid of sequences of these lengths (B,), which are numbers only if this is not ONNX's exporter."""
    if lengths.dim() != 1 or lengths.shape[0] != batch:
        raise ValueError(f"lengths must have one entry per sequence, ({batch},), got shape {tuple(lengths.shape)}")
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise ValueError(f"lengths must be integers, got {lengths.dtype}")
    if not torch.onnx.is_in_onnx_export():
        for b, length in enumerate(lengths.tolist()):
            if not 1 <= length <= steps:
                raise ValueError(f"lengths[{b}] = {length}, expected between 1 and {steps}, the steps of the input")
    lengths = lengths.to(device, torch.int64)
    step = torch.arange(steps, device=device).unsqueeze(1)
    active = step < lengths
    mirror = torch.where(active, lengths - 1 - step, step)
    return Grid(steps, batch, lengths, active.unsqueeze(2), mirror.unsqueeze(2))


def _enter_packed(input: PackedSequence, lengths: Tensor | None, features: int) -> tuple[Tensor, Grid, Packed]:
    if torch.onnx.is_in_onnx_export():
        raise RuntimeError("ONNX has no packed sequences: export the module with padded input and lengths=")
    packed = Packed(*input)
    with sizes_are_fixed():
        if lengths is not None:
            raise ValueError("lengths are given, but a PackedSequence carries its own")
        if packed.data.dim() != 2 or packed.data.shape[-1] != features:
            raise ValueError(f"expected rows of {features} features, got {tuple(packed.data.shape)}")
        steps = int(packed.batch_sizes.shape[0])
        cells, lengths = torch._VF._pad_packed_sequence(packed.data, packed.batch_sizes, False, 0.0, steps)
        grid = _ragged(steps, cells.shape[1], lengths, cells.device)
    return cells.flatten(0, 1), grid._replace(lengths=lengths), packed._replace(batch=grid.batch)


def leave(input: Tensor | PackedSequence, rows: Tensor, grid: Grid, batch_first: bool) -> Tensor | PackedSequence:
    """Output cells (T·B, F) in the form that the input had, with zeros in the padding."""
    if isinstance(input, PackedSequence):
        assert grid.lengths is not None
        data, _ = torch._VF._pack_padded_sequence(grid.by_step(rows), grid.lengths, False)
        return PackedSequence(data, *input[1:])
    output = grid.by_step(grid.without_padding(rows))
    if input.dim() == 2:
        return output.squeeze(1)
    return output.transpose(0, 1) if batch_first else output


def normalize(norm: Normalizer, rows: Tensor, grid: Grid, W: Tensor | None = None) -> Tensor:
    """N(x), or N(W x), of all cells (T·B, F): at once where the number of a step does not matter, otherwise by step."""
    if getattr(norm, "scope", "") == "sequence" or not (norm.per_step or _own_moments(norm)):
        return norm(rows) if W is None else norm.linear(rows, W)
    norm.reset_sequence()
    steps = enumerate(grid.by_step(rows).unbind())
    normalized = [norm(x, t) if W is None else norm.linear(x, W, t) for t, x in steps]
    norm.reset_sequence()
    return torch.cat(normalized)


def _own_moments(norm: Normalizer) -> bool:
    stats = getattr(norm, "stats", None)
    return isinstance(stats, StepStatistics) and stats.source == "batch"


def check_statistics(module: nn.Module, ragged: bool = False) -> None:
    """Raise RuntimeError if a normalizer would move statistics, or take them over the rows of a ragged batch."""
    for norm in module.modules():
        if not isinstance(norm, Normalizer) or not isinstance(getattr(norm, "stats", None), StepStatistics):
            continue
        if norm.training and not getattr(norm, "frozen", False):
            raise RuntimeError(
                f"a traced or exported graph cannot move statistics ({type(norm).__name__}): call model.eval() first"
            )
        if ragged and _own_moments(norm):
            raise RuntimeError(
                f"a traced or exported graph cannot take the moments of ragged batches ({type(norm).__name__}): "
                'use rnnnorm.statistics(model, "running") or "population"'
            )


def run(
    stack: RecurrentStack, rows: Tensor, grid: Grid, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All layers over the cells (T·B, F) of a padded batch: what `RecurrentStack.run` does over packed rows.

    Returns:
        Output cells (T·B, output_size), with anything in the padding, and the states after each sequence's last step.
    """
    check_statistics(stack, ragged=grid.active is not None)
    D = stack.num_directions
    each = list(zip(*(state.unbind() for state in states), strict=True))  # per layer and direction
    last: list[tuple[Tensor, ...]] = []
    for layer in range(stack.num_layers):
        seen, outputs = _drop_per_sequence(stack, rows, grid), []
        for direction, suffix in enumerate(stack.suffixes(layer)):
            begin = each[layer * D + direction]
            ready, turned = stack.ready_layer(suffix, begin[0]), grid.turned(seen) if direction else seen
            output, ended = _direction(ready, turned, grid, begin)
            outputs.append(grid.turned(output) if direction else output)
            last.append(ended)
        output = torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]
        rows = stack.leave_layer(rows, output, [], layer, normalize=lambda norm, x: normalize(norm, x, grid))
    stack.ran = "reference"
    return _drop_per_sequence(stack, rows, grid), tuple(torch.stack(parts) for parts in zip(*last, strict=True))


def _direction(layer: Layer, rows: Tensor, grid: Grid, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    norm, bias = layer.norms.input, layer.split[0]
    W = layer.weights.W_ih
    gates = F.linear(rows, W) if norm is None else normalize(norm, rows, grid, W)
    gates = gates if bias is None or layer.norms.joint is not None else gates + bias
    layer.norms.reset_sequence()
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


def _drop_per_sequence(stack: RecurrentStack, rows: Tensor, grid: Grid) -> Tensor:
    """Dropout with one mask per sequence, the same at all its steps."""
    if not (stack.variational_dropout and stack.training):
        return rows
    cells = grid.by_step(rows)
    return (cells * F.dropout(torch.ones_like(cells[0]), stack.variational_dropout)).flatten(0, 1)
