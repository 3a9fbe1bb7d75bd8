"""Recurrent state that a stateful stream carries from batch to batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from rnnnorm.data.base import Batch

State = Tensor | tuple[Tensor, Tensor]
"""(h, c) of an LSTM, or h of a GRU or RNN; each (num_layers · num_directions, B, H)."""


def _each(change: Callable[[Tensor], Tensor], state: State) -> State:
    return change(state) if isinstance(state, Tensor) else (change(state[0]), change(state[1]))


class CarriedStates:
    """The states in which the last batch of each stage ended, detached from their graph.

    Truncated backpropagation through time cuts a long text into batches; each but the first goes on from the state of
    the batch before. Training, validation and test are different texts, so each stage has its own slot, and a
    validation in the middle of a training epoch leaves the training state alone.
    """

    def __init__(self) -> None:
        self._states: dict[str, State] = {}

    def before(self, stage: str, batch: Batch) -> State | None:
        """The state a batch starts from: where it continues, that of the batch before; None is the initial state.

        Raises:
            ValueError: the batch continues another number of sequences than there were.
        """
        state = self._states.get(stage) if batch.continues else None
        if state is None:
            return None
        sequences, known = int(batch.input.batch_sizes[0]), (state if isinstance(state, Tensor) else state[0]).shape[1]
        if sequences != known:
            raise ValueError(f"a {stage} batch of {sequences} sequences cannot continue one of {known}")
        return _each(lambda part: part.to(batch.input.data.device), state)

    def after(self, stage: str, state: State) -> None:
        """Keep the state in which a batch ended."""
        self._states[stage] = _each(Tensor.detach, state)

    def save(self, stage: str) -> list[State | None]:
        """The state of a stage in every process, by rank, on the CPU; all processes must call it."""
        state = self._states.get(stage)
        own = None if state is None else _each(Tensor.cpu, state)
        if not (dist.is_available() and dist.is_initialized()):
            return [own]
        states: list[State | None] = [None] * dist.get_world_size()
        dist.all_gather_object(states, own)
        return states

    def restore(self, stage: str, states: list[State | None], rank: int) -> None:
        """Take up what `save` returned."""
        self._states.pop(stage, None)
        state = states[rank] if rank < len(states) else None
        if state is not None:
            self._states[stage] = _each(torch.as_tensor, state)
