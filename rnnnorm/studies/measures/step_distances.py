"""How far the statistics of single timesteps are from those of all steps together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

import pandas as pd
import torch
from torch import Tensor, nn

from rnnnorm.norms.statistics import StoredStatistics
from rnnnorm.studies.framework import Row, where

SETTLED = 0.1


def distances(module: nn.Module) -> dict[str, list[float]]:
    """Per place of each layer the distance of each step's population statistics from the pooled ones.

    Only for normalizers with statistics of every step, after `rnnnorm.recalibrate`.

    Returns:
        "hidden", "cell", … (in networks of several layers the last one's), each a list of T distances.
    """
    found = {}
    for path, stats in module.named_modules():
        if isinstance(stats, StoredStatistics) and stats.max_steps is not None and stats.window == 1:
            mean, var = stats.population_mean, stats.population_var
            if mean is not None and var is not None:
                found[path.split(".")[-2]] = distance(mean[: stats.max_steps], var[: stats.max_steps]).tolist()
    return found


def distance_rows(module: nn.Module) -> Iterator[Row]:
    """The `distance` of each step `t`, by `place`: see `distances`."""
    for place, found in distances(module).items():
        for t, value in enumerate(found):
            yield {"quantity": "distance", "place": place, "t": t, "value": value}


def distance(mean: Tensor, var: Tensor) -> Tensor:
    """2-Wasserstein distance between the Gaussians of each step and of all steps pooled, in pooled standard deviations.

        d_t² = mean over features of ((μ_t - μ)² + (σ_t - σ)²) / σ²

    with μ = mean_t μ_t and σ² = mean_t (σ_t² + μ_t²) - μ². It is 0 if all steps agree, finite where σ_t = 0, and about
    1 where a step lies a standard deviation aside. Features that never vary are left out.

    Args:
        mean: (T, F).
        var: (T, F).

    Returns:
        (T,) float64; all 0 if no feature varies.
    """
    mean, var = mean.double(), var.double()
    center = mean.mean(0)
    pooled = (var + (mean - center).square()).mean(0)
    kept = pooled > 0
    if not bool(kept.any()):
        return torch.zeros(len(mean), dtype=torch.float64)
    mean, var, center, pooled = mean[:, kept], var[:, kept], center[kept], pooled[kept]
    squares = (mean - center).square() + (var.sqrt() - pooled.sqrt()).square()
    return (squares / pooled).mean(1).sqrt()


def settling(along: Sequence[float], within: float = SETTLED) -> int:
    """The first step from which on all distances stay within `within` of their median over the second half.

    Raises:
        ValueError: no distances.
    """
    if not along:
        raise ValueError("settling needs the distance of at least one step")
    level = median(along[len(along) // 2 :])
    outside = [t for t, value in enumerate(along) if abs(value - level) > within]
    return outside[-1] + 1 if outside else 0


def settled(m: pd.DataFrame) -> pd.DataFrame:
    """`settled`: the step from which on each `distance` by `t` has settled, see `settling`."""
    rows = where(m, quantity="distance")
    keys = [column for column in rows if column not in ("t", "value")]
    steps = [
        float(settling(along.sort_values("t")["value"].tolist()))
        for _, along in rows.groupby(keys, sort=False, dropna=False)
    ]
    return rows.drop_duplicates(keys).drop(columns="t").assign(quantity="settled", value=steps)
