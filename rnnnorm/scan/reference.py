"""The reference backend: the equations over packed rows, step by step, in plain autograd."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..equations import QUIET, Layer
from ..packing import InputError


def scan_reference(
    layer: Layer, data: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer in one direction.

    The input product is taken for all rows at once and split once: indexing it step by step would make the backward
    pass quadratic in T.

    Where normalizers are synchronized, the sequences of other processes may go on when all of this one have ended: then
    their steps are taken with no rows, so that all processes meet in the same collectives, forward and backward.

    Args:
        layer: the cell, its weights and normalizers, and what is dropped.
        data: packed rows (N, I).
        batch_sizes: (T,) int64 on the CPU.
        states: h_0, and c_0 if the cell has one, each (B, H) (h_0 (B, proj_size) with a projection), in the order of
            the packed sequences.

    Returns:
        Output rows (N, H or proj_size), and the states of each sequence after its own last step.

    Raises:
        InputError: weights without values, on the meta device, for rows that have some: torch computes garbage.
    """
    if not data.is_meta and any(w.is_meta for w in (*layer.weights[:2], *layer.weights.biases)):
        raise InputError(
            f"the weights are on the meta device, but the input is on {data.device}: "
            f"make them by to_empty(device=...) and reset_parameters() or load_state_dict(...)"
        )
    sizes: list[int] = batch_sizes.tolist()
    layer.norms.reset_sequence()
    gates = layer.gates_x(data, sizes)
    absent = layer.norms.agreed_steps(len(sizes)) - len(sizes)
    if len(sizes) == 1 and not absent:  # nothing to split or put together, which is half of a step of one sequence
        states = layer.step(gates, states, 0)
        layer.norms.reset_sequence()
        return states[0], states
    sizes += [0] * absent
    if not sizes[-1]:
        without_rows = replace(layer, norms=layer.norms.synchronized(), noise=QUIET)
    outputs: list[Tensor] = []
    finished: list[tuple[Tensor, ...]] = []
    for t, gates_x in enumerate(gates.split_with_sizes(sizes)):
        active = sizes[t]
        if active < states[0].shape[0]:  # the shortest sequences, which are the last rows, have ended
            finished.append(tuple(state[active:] for state in states))
            states = tuple(state[:active] for state in states)
        states = (layer if active or not absent else without_rows).step(gates_x, states, t)
        outputs.append(states[0])
    layer.norms.reset_sequence()
    finished.append(states)
    return torch.cat(outputs), tuple(torch.cat(parts) for parts in zip(*reversed(finished), strict=True))
