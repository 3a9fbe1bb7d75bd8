"""Slots of stored statistics: how much each enlarges an error of its mean, some exchanged, some given errors by hand.

A slot is a place (a normalizer) and a timestep. With y = γ (x - μ̂) / √(σ̂² + ε) an error δ of μ̂ shifts y by
-γδ/√(σ̂² + ε) in all sequences alike, so γ/√(σ² + ε) is what the slot multiplies an error by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rnnnorm.data.base import Batch
from rnnnorm.norms import statistics
from rnnnorm.norms.batch_statistics import BatchNormalizer
from rnnnorm.tasks import SequenceTask

Moments = list[tuple[Tensor, Tensor, Tensor]]
"""Mean (S, F), variance (S, F) and rows (S,) of every normalizer with stored statistics."""
Slots = list[Tensor]
"""Some slots of every normalizer: (S,) truth values."""


def normalizers(model: SequenceTask) -> list[BatchNormalizer]:
    """The normalizers with stored statistics, in the order of `Moments`."""
    return [module for module in model.modules() if isinstance(module, BatchNormalizer)]


def stored(model: SequenceTask, source: str = "population") -> Moments:
    """Copies of the "running" averages or of the "population" statistics.

    Raises:
        ValueError: there are no population statistics yet.
    """
    found: Moments = []
    for norm in normalizers(model):
        s = norm.stats
        parts = (s.running_mean, s.running_var, s.num_rows)
        if source == "population":
            if s.population_mean is None or s.population_var is None or s.population_rows is None:
                raise ValueError("there are no population statistics to copy: call rnnnorm.recalibrate first")
            parts = (s.population_mean, s.population_var, s.population_rows)
        found.append((parts[0].clone(), parts[1].clone(), parts[2].clone()))
    return found


def put(model: SequenceTask, moments: Moments) -> None:
    """Store copies of moments as those of the population."""
    for norm, (mean, var, rows) in zip(normalizers(model), moments, strict=True):
        norm.stats.population_mean, norm.stats.population_var = mean.clone(), var.clone()
        norm.stats.population_rows = rows.clone()


def exchanged(moments: Moments, others: Moments, slots: Slots) -> Moments:
    """Moments of which some slots are taken from others, the rows that they were estimated of among them."""
    made: Moments = []
    for (mean, var, rows), (other_mean, other_var, other_rows), chosen in zip(moments, others, slots, strict=True):
        wide = chosen.unsqueeze(1)
        made.append(
            (
                torch.where(wide, other_mean, mean),
                torch.where(wide, other_var, var),
                torch.where(chosen, other_rows, rows),
            )
        )
    return made


def floored(moments: Moments, floor: float) -> Moments:
    """Moments whose variances are at least `floor`."""
    return [(mean.clone(), var.clamp(min=floor), rows.clone()) for mean, var, rows in moments]


def with_error(moments: Moments, slots: Slots, errors: Sequence[Tensor | float]) -> Moments:
    """Moments with errors in the means of some slots, of alternating sign over the features.

    Args:
        moments: of all slots.
        slots: which get errors.
        errors: their size for each normalizer, one number or one of each entry of its means, (S, F).
    """
    made: Moments = []
    for (mean, var, rows), chosen, size in zip(moments, slots, errors, strict=True):
        sign = 1 - 2 * (torch.arange(mean.shape[1]) % 2)
        made.append((mean + size * sign * chosen.unsqueeze(1), var.clone(), rows.clone()))
    return made


def multipliers(model: SequenceTask, moments: Moments) -> list[Tensor]:
    """|γ|/√(σ² + ε) of every entry of every normalizer, (S, F): by what an error of the stored mean is multiplied."""
    found = []
    for norm, (_, var, _) in zip(normalizers(model), moments, strict=True):
        gain = norm.gain.detach().double().abs()
        found.append(gain / (var.double() + norm.eps).sqrt())
    return found


def amplification(model: SequenceTask, moments: Moments) -> list[Tensor]:
    """The median of `multipliers` over the features of every slot, (S,); 0 where fewer than two rows were seen."""
    found = multipliers(model, moments)
    return [torch.where(rows > 1, by.median(1).values, 0.0) for by, (_, _, rows) in zip(found, moments, strict=True)]


def one_slot(amplified: list[Tensor], moments: Moments, rank: float) -> Slots:
    """One slot: that whose amplification has a rank, from 0 to 1, among the slots that half of the sequences reach.

    Args:
        amplified: by `amplification`.
        moments: whose rows say how many sequences reach a slot.
        rank: 1 for the largest amplification, 0.5 for the median.
    """
    whole = torch.cat(amplified)
    rows = torch.cat([rows / max(int(rows.max()), 1) for _, _, rows in moments])
    order = whole.where(rows >= 0.5, -1.0).argsort(stable=True)[int((rows < 0.5).sum()) :]
    chosen = torch.zeros(len(whole), dtype=torch.bool)
    chosen[order[round(rank * (len(order) - 1))]] = True
    return list(torch.split(chosen, [len(part) for part in amplified]))


@torch.no_grad()
def settle(model: SequenceTask, batch: Batch, slots: Slots) -> None:
    """Estimate the population moments of some slots anew, where they stand: all others stay what they are.

    One pass over the batch in the order of time: each of these slots takes the moments of the rows that it meets, which
    all earlier slots have normalized by what is stored. What is wrong with those is then part of its own mean.
    """
    hooks = []
    for norm, chosen in zip(normalizers(model), slots, strict=True):

        def take(module: Any, args: tuple[Any, ...], chosen: Tensor = chosen) -> None:
            rows, s = args[0], module.stats
            slot = s.slot(args[1] if len(args) > 1 else 0)
            if slot is not None and bool(chosen[slot]) and len(rows) > 1:
                var, mean = torch.var_mean(rows.double(), 0)
                s.population_mean[slot], s.population_var[slot] = mean.to(rows.dtype), var.to(rows.dtype)
                s.population_rows[slot] = len(rows)

        hooks.append(norm.register_forward_pre_hook(take))
    try:
        with statistics(model, "population"):
            model.encode(batch)
    finally:
        for hook in hooks:
            hook.remove()
