"""Padded sequences in graphs of plain operators, for `torch.jit.trace` and `torch.onnx.export`.

Rows cannot be packed there: how many there are at a step depends on the lengths, which are known only when the graph
runs. So all B sequences take all T steps, and those that have ended keep their states. That is the same function
wherever rows are normalized by themselves or by stored statistics; moments of a step's own rows would include the
padding, and are refused.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..common.transforms import apart, sizes_are_fixed
from ..norms import Normalizer, StoredStatistics
from ..packing import Packed, check_kind_of_lengths, check_lengths, check_packed
from .inputs import check_rows, enter_padded


class Grid(NamedTuple):
    """The T·B positions of a padded batch, those of a step together.

    Args:
        steps: T, which a graph of `torch.export` may leave open.
        batch: B, which a graph may leave open.
        lengths: (B,), or None where all sequences have T steps.
        active: (T, B, 1), whether a position is inside its sequence; None likewise.
        mirror: (T, B, 1), the step that comes in the place of each where sequences are turned around within their
            lengths; None likewise.
    """

    steps: int
    batch: int
    lengths: Tensor | None = None
    active: Tensor | None = None
    mirror: Tensor | None = None

    @property
    def endless(self) -> bool:
        """Whether the graph leaves T open."""
        return isinstance(self.steps, torch.SymInt)

    def by_step(self, rows: Tensor) -> Tensor:
        """(T·B, F) → (T, B, F)."""
        return torch.unflatten(rows, 0, (self.steps, self.batch))

    def turned(self, rows: Tensor) -> Tensor:
        """Rows (T·B, F) with each sequence from its last step to its first, and its padding where it was."""
        positions = self.by_step(rows)
        positions = positions.flip(0) if self.mirror is None else positions.gather(0, self.mirror.expand_as(positions))
        return positions.flatten(0, 1)

    def without_padding(self, rows: Tensor) -> Tensor:
        """Rows (T·B, F) with zeros where no sequence is."""
        return rows if self.active is None else torch.where(self.active.flatten(0, 1), rows, 0)


def enter(
    input: Tensor | PackedSequence, lengths: Tensor | None, features: int, batch_first: bool
) -> tuple[Tensor, Grid, Packed]:
    """The positions (T·B, F) of any accepted input, what is known of them, and the order of its sequences.

    Raises:
        TypeError: neither Tensor nor PackedSequence.
        InputError: a shape that does not fit, lengths below 1 or above T as far as they are known.
        RuntimeError: a PackedSequence on its way to ONNX.
    """
    if isinstance(input, PackedSequence):
        return _enter_packed(input, lengths, features)
    with sizes_are_fixed():
        positions = enter_padded(input, lengths, features, batch_first)
        steps: Any = positions.shape[0]
        steps, batch = int(steps) if isinstance(steps, Tensor) else steps, positions.shape[1]  # a tensor in a trace
        grid = Grid(steps, batch) if lengths is None else _ragged(steps, batch, lengths, input.device)
    rows = grid.without_padding(positions.flatten(0, 1))  # what stands there may be NaN, and would go into gradients
    return rows, grid, Packed(rows, torch.empty(0), batch=batch)


def _ragged(steps: int, batch: int, lengths: Tensor, device: torch.device) -> Grid:
    """The grid of sequences of these lengths (B,), which are numbers now only in a trace."""
    lengths = torch.as_tensor(lengths)
    check_kind_of_lengths(lengths, batch)
    if not torch.compiler.is_compiling():
        with apart():
            check_lengths(lengths.tolist(), steps)
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
        check_rows(packed.data, features)
        with apart():
            check_packed(packed.data.shape[0], packed.batch_sizes)
        steps = int(packed.batch_sizes.shape[0])
        positions, lengths = torch._VF._pad_packed_sequence(packed.data, packed.batch_sizes, False, 0.0, steps)
        grid = _ragged(steps, positions.shape[1], lengths, positions.device)
    return positions.flatten(0, 1), grid._replace(lengths=lengths), packed._replace(batch=grid.batch)


def leave(input: Tensor | PackedSequence, rows: Tensor, grid: Grid, batch_first: bool) -> Tensor | PackedSequence:
    """Output positions (T·B, F) in the form that the input had, with zeros in the padding."""
    if isinstance(input, PackedSequence):
        assert grid.lengths is not None
        data, _ = torch._VF._pack_padded_sequence(grid.by_step(rows), grid.lengths, False)
        return PackedSequence(data, *input[1:])
    output = grid.by_step(grid.without_padding(rows))
    if input.dim() == 2:
        return output.squeeze(1)
    return output.transpose(0, 1) if batch_first else output


def normalize(norm: Normalizer, rows: Tensor, grid: Grid, W: Tensor | None = None) -> Tensor:
    """N(x), or N(W x), of all positions (T·B, F): at once, or by step where the number of the step matters."""

    def normalized(x: Tensor, t: Any) -> Tensor:
        return norm(x, t) if W is None else norm.linear(x, W, t)

    if getattr(norm, "scope", "") == "sequence" or not (norm.per_step or _own_moments(norm)):
        return normalized(rows, 0)
    if grid.endless:
        return normalized(grid.by_step(rows), torch.arange(grid.steps, device=rows.device).unsqueeze(1)).flatten(0, 1)
    norm.reset_sequence()
    steps = [normalized(x, t) for t, x in enumerate(grid.by_step(rows).unbind())]
    norm.reset_sequence()
    return torch.cat(steps)


def _own_moments(norm: Normalizer) -> bool:
    stats = getattr(norm, "stats", None)
    return isinstance(stats, StoredStatistics) and stats.source == "batch"


def check_normalizers(module: nn.Module, grid: Grid | None = None) -> None:
    """Raise RuntimeError if a normalizer inside does what a graph cannot: it says which, and what to do instead."""
    for norm in module.modules():
        if not isinstance(norm, Normalizer):
            continue
        name, stats = type(norm).__name__, getattr(norm, "stats", None)
        stats = stats if isinstance(stats, StoredStatistics) else None
        if stats is not None and norm.training and not getattr(norm, "frozen", False):
            raise RuntimeError(f"a traced or exported graph cannot move statistics ({name}): call model.eval() first")
        if _own_moments(norm) and getattr(norm, "ghost", None) is not None:
            raise RuntimeError(
                f"a traced or exported graph cannot take the moments of parts of a batch ({name}, ghost={norm.ghost}): "
                'use rnnnorm.statistics(model, "running") or "population"'
            )
        if grid is None:
            continue
        if _own_moments(norm) and (grid.active is not None or grid.endless):
            raise RuntimeError(
                f"a traced or exported graph cannot take the moments of ragged batches or of an open number of steps "
                f'({name}): use rnnnorm.statistics(model, "running") or "population"'
            )
        if grid.endless and norm.per_step and (stats is None or stats.tail == "error"):
            raise RuntimeError(f"{name} must know the number of steps, {norm}: export it without a dynamic one")
