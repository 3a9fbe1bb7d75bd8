"""Masks of the noise inside a recurrence, drawn before a scan in the order in which the reference draws them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from ...equations import Layer, Noise
from ...equations.noise import uniform


class Masks(NamedTuple):
    """What is dropped and kept in one run; None where nothing is.

    Args:
        hidden: factors of h_{t-1} where W_hh reads it, (B, H), the same at all steps.
        update: factors of the update, (N, H).
        zone_h: 1 where h_t keeps its value of the step before, (N, H); otherwise 0.
        zone_c: the same of c_t.
    """

    hidden: Tensor | None = None
    update: Tensor | None = None
    zone_h: Tensor | None = None
    zone_c: Tensor | None = None


@dataclass(frozen=True)
class Drawn(Noise):
    """The noise of one step, by masks that have been drawn.

    Args:
        factors: of the update (B_t, H), or None.
        kept: for each state 1 where it keeps its value, (B_t, H), or None; without any, see `Noise.zone`.
    """

    factors: Tensor | None = None
    kept: tuple[Tensor | None, ...] = ()

    def drop(self, update: Tensor) -> Tensor:
        """Drop entries of the update of one step."""
        return update if self.factors is None else update * self.factors

    def zone(self, old: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Let entries of the states keep their old value."""
        if not self.training:
            return super().zone(old, new)
        pairs = zip(old, new, self.kept, strict=True)
        return tuple(after if kept is None else torch.where(kept > 0, before, after) for before, after, kept in pairs)


def draw(layer: Layer, data: Tensor, sizes: list[int]) -> Masks:
    """The masks of a run over packed rows (N, I); that of h_{t-1} has been drawn with the layer.

    So a scan and the reference see the same numbers: at each step first those for the update, then for each state.
    A stream of a CPU's random numbers does not depend on how many are drawn at once.
    """
    noise = layer.noise
    if not noise.training or not (noise.update or any(noise.zoneout)):
        return Masks(layer.mask)
    H = layer.weights.W_ih.shape[0] // layer.cell.gates
    update = data.new_empty(len(data), H) if noise.update else None
    zones = [data.new_empty(len(data), H) if p else None for p in noise.zoneout]
    masks = [(update, noise.update), *zip(zones, noise.zoneout, strict=True)]
    drawn = [(mask, p) for mask, p in masks if mask is not None]
    start = 0
    with torch.no_grad():
        for rows, steps in groupby(sizes):  # at once for all steps with as many rows
            block = (len(list(steps)), rows, H)
            numbers = uniform(data, block[0], len(drawn), rows, H)
            stop = start + block[0] * rows
            for k, (mask, p) in enumerate(drawn):
                compare = torch.ge if mask is update else torch.lt
                compare(numbers[:, k], p, out=mask[start:stop].view(block))
            start = stop
        if update is not None and noise.update < 1:
            update.div_(1 - noise.update)
    return Masks(layer.mask, update, *zones)
