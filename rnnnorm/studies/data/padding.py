"""Batch statistics that count padding, as those of most public code do."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import lightning as L
import torch
from torch import Tensor

import rnnnorm
from rnnnorm.equations import Layer
from rnnnorm.nn.recurrent import Recurrent
from rnnnorm.norms import Normalizer, has_batch_statistics
from rnnnorm.norms.presets import parse_norm
from rnnnorm.packing import row_sequences, row_steps

MASKED, FINISHED = "masked", ("frozen", "running")


@cache
def ways(norm: str) -> tuple[str, ...]:
    """Ways to treat padding that differ for a norm: "masked", and of `CountPadding` "frozen" and "running".

    A row that is normalized by itself is the same in all of them. Where inputs alone are normalized, padded ones are
    zeros whatever finished sequences do, so that the two ways of counting are one.

    Args:
        norm: a preset with overrides.
    """
    if not has_batch_statistics(rnnnorm.LSTM(1, 1, norm=norm)):
        return (MASKED,)
    return (MASKED, FINISHED[1]) if set(parse_norm(norm).places) == {"input"} else (MASKED, *FINISHED)


def treating(config: Mapping[str, Any], padding: str) -> dict[str, Any]:
    """A configuration in which padding is treated in one of these ways: with `CountPadding` among the callbacks or not.

    Args:
        config: as for `rnnnorm compare -c`.
        padding: "masked", or see `CountPadding`.
    """
    if padding == MASKED:
        return dict(config)
    trainer = dict(config.get("trainer", {}))
    callbacks = trainer.get("callbacks") or []
    added = {"class_path": f"{__name__}.CountPadding", "init_args": {"finished": padding}}
    trainer["callbacks"] = [*(callbacks if isinstance(callbacks, list) else [callbacks]), added]
    return {**config, "trainer": trainer}


class CountPadding(L.Callback):
    """Makes a task's recurrent network count padding in its statistics.

    Each layer pads its batch with rows of zeros to the longest sequence, after the input layer, and every normalizer
    sees all B rows at every step: those inside see the steps of finished sequences, vertical ones the padded rows. What
    a finished sequence does meanwhile:

    - "frozen": it keeps its states, as implementations with a mask have it: a step is computed for all rows, and then
      undone for those that have ended. Statistics are taken over the step that is undone, too.
    - "running": it goes on over the padding, as implementations without a mask have it.

    Either way the output has each sequence's own steps only, and its last state is that of its own last step, so that a
    network whose normalizers look at nothing but a row itself computes what it always does. This holds in training,
    recalibration and all evaluation modes; in the reverse direction each sequence's own part is reversed and the
    padding comes after it.

    Args:
        finished: "frozen" or "running".

    Raises:
        ValueError: another word; in `setup`, a model without a recurrent network at `recurrent`.

    Sources: pytorch#70529 (batch normalization ignores the lengths of sequences); Cooijmans et al., ICLR 2017, whose
    code for question answering masks states but not the statistics per step.
    """

    def __init__(self, finished: str = "frozen") -> None:
        if finished not in FINISHED:
            raise ValueError(f"finished must be one of {', '.join(FINISHED)}, got {finished!r}")
        self.finished = finished

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Change the model before anything runs."""
        self.apply(pl_module)

    def apply(self, model: torch.nn.Module) -> None:
        """Change a model by hand; a copy of it counts padding, too, and one that is built anew does not.

        Raises:
            ValueError: it has no recurrent network at `recurrent`.
        """
        network = getattr(model, "recurrent", None)
        if not isinstance(network, Recurrent):
            raise ValueError(f"{type(model).__name__} has no rnnnorm.LSTM, GRU or RNN at `recurrent`")
        padded = _Padded(network, self.finished == "frozen")
        # Bound methods in place of the network's own: a deep copy of the network gets copies bound to itself.
        vars(network).update(run_direction=padded.run_direction, between=padded.between, mergeable=False)


class _Padded:
    """A recurrent network whose layers run over padded rows."""

    def __init__(self, network: Recurrent[Any], frozen: bool) -> None:
        self.network, self.frozen = network, frozen

    def run_direction(
        self, rows: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...], suffix: str, quiet: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """In place of `RecurrentStack.run_direction`."""
        self.network.ran = "reference"
        layer = self.network.ready_layer(suffix, states[0], quiet)
        return scan_padded(layer, rows, batch_sizes, states, self.frozen)

    def between(self, layer: int) -> Any:
        """In place of `RecurrentStack.between`."""
        norm = type(self.network).between(self.network, layer)
        return None if norm is None else _PaddedBetween(norm)


class _PaddedBetween:
    """A normalizer between layers that sees padded rows."""

    def __init__(self, norm: Normalizer) -> None:
        self._norm = norm

    def sequence(self, x: Tensor, batch_sizes: list[int]) -> Tensor:
        """Normalize all rows, those of the padding among them, and hand out the sequences' own."""
        sizes = torch.tensor(batch_sizes)
        padded, cells = pad(x, sizes)
        return self._norm.sequence(padded, [batch_sizes[0]] * len(batch_sizes))[cells]


def pad(rows: Tensor, batch_sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Packed rows (N, F) with rows of zeros in between: (T·B, F), step after step, and where each row went, (N,)."""
    T, B = len(batch_sizes), int(batch_sizes[0])
    cells = (row_steps(batch_sizes) * B + row_sequences(batch_sizes)).to(rows.device)
    return rows.new_zeros(T * B, *rows.shape[1:]).index_copy(0, cells, rows), cells


def scan_padded(
    layer: Layer, rows: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...], frozen: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer in one direction, every step over all B rows.

    Args:
        layer: the cell, its weights and normalizers.
        rows: packed rows (N, I).
        batch_sizes: (T,) int64 on the CPU.
        states: (B, H) each, in the order of the packed sequences.
        frozen: finished sequences keep their states; otherwise they run on over rows of zeros.

    Returns:
        Output rows (N, H or proj_size) of the sequences' own steps, and their states after their own last steps.
    """
    sizes: list[int] = batch_sizes.tolist()
    B, before = sizes[0], sizes[0]
    layer.norms.reset_sequence()
    outputs: list[Tensor] = []
    ended: list[tuple[Tensor, ...]] = []
    gates = layer.gates_x(pad(rows, batch_sizes)[0], [B] * len(sizes))
    for t, (active, gates_x) in enumerate(zip(sizes, gates.split_with_sizes([B] * len(sizes)), strict=True)):
        if active < before:
            ended.append(tuple(state[active:before] for state in states))
            before = active
        after = layer.step(gates_x, states, t)
        outputs.append(after[0][:active])
        if frozen and active < B:
            after = tuple(torch.cat([new[:active], old[active:]]) for new, old in zip(after, states, strict=True))
        states = after
    layer.norms.reset_sequence()
    ended.append(tuple(state[:before] for state in states))
    return torch.cat(outputs), tuple(torch.cat(parts) for parts in zip(*reversed(ended), strict=True))
