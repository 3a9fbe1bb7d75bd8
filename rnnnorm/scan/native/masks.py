"""Masks of the noise inside a recurrence, drawn before a scan in the order in which the reference draws them."""

from __future__ import annotations

from dataclasses import dataclass
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
    """
    noise = layer.noise
    if not noise.training or not (noise.update or any(noise.zoneout)):
        return Masks(layer.mask)
    H = layer.weights.W_ih.shape[0] // layer.cell.gates
    update = data.new_empty(len(data), H) if noise.update else None
    zones = [data.new_empty(len(data), H) if p else None for p in noise.zoneout]
    start = 0
    with torch.no_grad():
        for rows in sizes:
            stop = start + rows
            ones = data.new_ones(rows, H)
            if update is not None:
                update[start:stop] = noise.drop(ones)
            for zone, p in zip(zones, noise.zoneout, strict=True):
                if zone is not None:
                    zone[start:stop] = uniform(ones) < p
            start = stop
    return Masks(layer.mask, update, *zones)
