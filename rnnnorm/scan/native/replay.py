"""A scan once more in plain operators, from what it read and not from the present state of any module.

Derivatives of derivatives need the gradients as functions of the inputs. By then a normalizer may be in another mode,
and its averages may have moved on; a forward pass notes which steps used moments of their own, and which moments the
others were given. The equations are those of the reference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...equations import Layer, LayerWeights
from ...norms.batch_statistics import rounding
from ...norms.fusible import ColumnStatistics, Constant, RowStatistics, Squash
from ..plan import PLACES, Place
from .masks import Drawn
from .run import Inputs, Run


@dataclass(frozen=True)
class _Normalizer:
    """One place as the run computed it."""

    place: Place
    given: tuple[Tensor, Tensor] | None
    own: int

    def __call__(self, x: Tensor, t: int) -> Tensor:
        place = self.place
        stored = None if self.given is None or t < self.own else (self.given[0][t], self.given[1][t])
        y = _normalized(place, x, stored)
        y = y if place.gain is None else y * place.gain
        return y if place.bias is None else y + place.bias

    def linear(self, x: Tensor, W: Tensor, t: int) -> Tensor:
        return self(F.linear(x, W), t)


@dataclass(frozen=True)
class _Layer(Layer):
    """A layer whose biases are added up already."""

    sums: tuple[Tensor | None, Tensor | None] = (None, None)

    @property
    def split(self) -> tuple[Tensor | None, Tensor | None]:
        return self.sums


def replay(run: Run, inputs: Inputs) -> tuple[Tensor, ...]:
    """Output rows (N, H) and the last states (B, H) of a run, differentiable as often as one likes."""
    plan, sizes = run.plan, run.sizes
    norms = SimpleNamespace(carried=plan.carried, **dict.fromkeys(PLACES))
    for k, (name, place) in enumerate(plan.places.items()):
        gain, bias, alpha = inputs.affine[3 * k : 3 * k + 3]
        seen = place._replace(gain=gain, bias=bias, alpha=alpha)
        setattr(norms, name, _Normalizer(seen, run.given.get(name), run.own.get(name, 0)))
    three: Any = None if inputs.peepholes is None else inputs.peepholes.chunk(3)
    weights = LayerWeights(inputs.W_ih, inputs.W_hh, (), inputs.W_hr, peepholes=three)
    known: Any = norms
    sums = (inputs.bias, inputs.bias_hn)
    layer = _Layer(run.cell, weights, known, run.noise, inputs.mask, sums=sums)

    states: tuple[Tensor, ...] = (inputs.h_0,) if inputs.c_0 is None else (inputs.h_0, inputs.c_0)
    outputs, ended, start = [], [], 0
    for t, x in enumerate(inputs.x.split_with_sizes(sizes)):
        active, stop = sizes[t], start + sizes[t]
        if active < states[0].shape[0]:
            ended.append(tuple(state[active:] for state in states))
            states = tuple(state[:active] for state in states)
        factors, *kept = (None if m is None else m[start:stop] for m in (inputs.update, inputs.zone_h, inputs.zone_c))
        kept_by = tuple(kept[: len(states)])
        noise = Drawn(zoneout=run.noise.zoneout, training=run.noise.training, factors=factors, kept=kept_by)
        step = replace(layer, noise=noise)
        states = step.step(step.gates_x_at(x, t), states, t)
        outputs.append(states[0])
        start = stop
    ended.append(states)
    return torch.cat(outputs), *(torch.cat(parts) for parts in zip(*reversed(ended), strict=True))


def _normalized(place: Place, rows: Tensor, given: tuple[Tensor, Tensor] | None) -> Tensor:
    """(x - μ) / √(σ² + ε), or what else the place computes before gain and bias."""
    statistics = place.statistics
    if isinstance(statistics, Constant):
        return rows * statistics.factor
    if isinstance(statistics, Squash):
        assert place.alpha is not None
        return torch.tanh(place.alpha * rows)
    if given is not None:
        return (rows - given[0]) * _roots(place, given[1])
    if isinstance(statistics, ColumnStatistics):
        mean = rows.mean(0)
        return (rows - mean) * _roots(place, ((rows - mean) ** 2).mean(0))
    assert isinstance(statistics, RowStatistics)
    groups = rows.view(rows.shape[0], place.groups, -1)
    if place.centered:
        groups = groups - groups.mean(2, keepdim=True)
    y: Tensor = groups * torch.rsqrt((groups**2).mean(2, keepdim=True) + place.eps)
    return y.flatten(1)


def _roots(place: Place, var: Tensor) -> Tensor:
    roots = torch.rsqrt(var + place.eps)
    return torch.where(var <= rounding(var.dtype, place.eps), 0, roots) if place.skips else roots
