"""A scan once more in plain operators, from what it read and not from the present state of any module.

Derivatives of derivatives need the gradients as functions of the inputs. By then a normalizer may be in another mode,
and its averages may have moved on; a forward pass notes which steps used moments of their own, and which moments the
others were given.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...norms.fusible import RowStatistics
from ..plan import Place
from .run import Inputs, Run


def replay(run: Run, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """Output rows (N, H), h_n and c_n (B, H) of a run, differentiable as often as one likes."""
    plan, sizes = run.plan, run.sizes
    affine = dict(zip(plan.places, zip(inputs.affine[::2], inputs.affine[1::2], strict=True), strict=True))

    def normalize(name: str, rows: Tensor, t: int) -> Tensor:
        place = plan.places.get(name)
        if place is None:
            return rows
        gain, bias = affine[name]
        assert gain is not None
        given = run.given[name] if place.by_column and t >= run.own else None
        y = _normalized(place, rows, None if given is None else (given[0][t], given[1][t])) * gain
        return y if bias is None else y + bias

    h, c = inputs.h_0, inputs.c_0
    outputs, ended = [], []
    for t, x in enumerate(inputs.x.split_with_sizes(sizes)):
        active = sizes[t]
        if active < h.shape[0]:
            ended.append((h[active:], c[active:]))
            h, c = h[:active], c[:active]
        gates = normalize("input", F.linear(x, inputs.W_ih), t) + normalize("hidden", F.linear(h, inputs.W_hh), t)
        gates = normalize("joint", gates, t)
        i, f, g, o = (gates if inputs.bias is None else gates + inputs.bias).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        shown = normalize("cell", c, t)
        c = shown if plan.carried else c
        h = o.sigmoid() * shown.tanh()
        outputs.append(h)
    ended.append((h, c))
    h_n, c_n = (torch.cat(parts) for parts in zip(*reversed(ended), strict=True))
    return torch.cat(outputs), h_n, c_n


def _normalized(place: Place, rows: Tensor, given: tuple[Tensor, Tensor] | None) -> Tensor:
    """(x - μ) / √(σ² + ε)."""
    eps = place.statistics.eps
    if given is not None:
        return (rows - given[0]) * torch.rsqrt(given[1] + eps)
    if not isinstance(place.statistics, RowStatistics):
        mean = rows.mean(0)
        return (rows - mean) * torch.rsqrt(((rows - mean) ** 2).mean(0) + eps)
    groups = rows.view(rows.shape[0], place.groups, -1)
    if place.centered:
        groups = groups - groups.mean(2, keepdim=True)
    y: Tensor = groups * torch.rsqrt((groups**2).mean(2, keepdim=True) + eps)
    return y.flatten(1)
