"""Moments per step and feature, exchanged with the normalizers once per run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..plan import Place


def settle(place: Place | None, sizes: Sequence[int], own: int, mean: Tensor | None, var: Tensor | None) -> None:
    """Tell a normalizer by columns the moments (T, F) of its first `own` steps, and set those of the others.

    In that order, since a step without moments of its own may borrow those that the batch has just moved.
    """
    if place is None or place.columns is None or mean is None or var is None:
        return
    if own:
        place.columns.observe(0, sizes[:own], mean[:own], var[:own])
    if own < len(sizes):
        stored = place.columns.recall(own, len(sizes))
        mean[own:].copy_(stored[0])
        var[own:].copy_(stored[1])


def observe_tail(place: Place | None, sizes: Sequence[int], own: int, rows: Tensor | None) -> None:
    """Tell the raw moments of the other steps, where population statistics are gathered.

    Args:
        place: the normalizer, or None.
        sizes: B_t.
        own: number of the first of those steps.
        rows: what is normalized, the rows of the last step last.
    """
    if place is None or place.columns is None or rows is None:
        return
    tail = sizes[own:]
    if not tail or not place.columns.wants_moments():
        return
    rows = rows[rows.shape[0] - sum(tail) :]
    rows = rows if rows.dtype == torch.float64 else rows.float()
    pairs = [torch.var_mean(step, 0, correction=0) for step in rows.split_with_sizes(list(tail))]
    place.columns.observe(own, tail, torch.stack([mean for _, mean in pairs]), torch.stack([var for var, _ in pairs]))
