"""How far stored statistics are off at each timestep, and what they would be if the weights had rested."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy

import torch
from torch import Tensor

from rnnnorm.data.base import Batch
from rnnnorm.norms import recalibrate, statistics
from rnnnorm.norms.batch import BatchNorm
from rnnnorm.norms.batch_statistics import BatchNormalizer
from rnnnorm.norms.statistics import StoredStatistics
from rnnnorm.tasks import SequenceTask


def per_step(model: SequenceTask) -> list[BatchNormalizer]:
    """The normalizers that take moments over the rows of each step, whether or not steps share what is stored."""
    return [m for m in model.modules() if isinstance(m, BatchNormalizer) and not m.sequence_wise]


def moments_by_step(
    model: SequenceTask, batches: Iterable[Batch], steps: int, way: str = "pooled"
) -> list[StoredStatistics]:
    """Mean and unbiased variance of what enters each normalizer at each step, over all rows of all batches.

    The model is left as it is.

    Args:
        model: a task with normalizers over rows of steps.
        batches: whose rows are counted.
        steps: how many steps are told apart.
        way: "pooled": each batch is normalized by its own moments, as in training; "consistent": all as one batch, as
            population statistics are taken.

    Returns:
        one per normalizer of `per_step`, with `population_mean`, `population_var` and `population_rows`.
    """
    twin = deepcopy(model)
    for norm in per_step(twin):
        like = norm.stats.running_mean
        norm.stats = StoredStatistics(like.shape[1], steps, device=like.device, dtype=like.dtype)
    recalibrate(twin, batches, forward=twin.encode, way=way, rows=None)
    return [norm.stats for norm in per_step(twin)]


def off_by(
    model: SequenceTask, target: list[StoredStatistics], source: str, min_rows: int = 30
) -> Iterator[tuple[int, float]]:
    """By how much normalized values are off because the stored statistics are, at each step.

        √( mean over features of ((μ̂ - μ) / σ̂)² + (σ / σ̂ - 1)² ),   σ² + ε under both roots

    This is the root mean square error of (x - μ̂) / σ̂ as an estimate of (x - μ) / σ for rows x with mean μ and variance
    σ²: 1 means that a value is off by as much as it varies.

    Args:
        model: whose stored statistics μ̂, σ̂ are looked at.
        target: μ and σ per step, by `moments_by_step`.
        source: "running" or "population".
        min_rows: a step with fewer rows in the target is left out.

    Yields:
        step and error.
    """
    norms = per_step(model)
    if not norms:
        return
    steps = target[0].running_mean.shape[0]
    squares, count = torch.zeros(steps, dtype=torch.float64), 0
    with statistics(model, source):
        for norm, right in zip(norms, target, strict=True):
            mean, var = norm.stats.recall_steps(0, steps)
            squares += squared_error(mean, var, right, norm.eps).sum(1)
            count += mean.shape[1]
    rows = target[0].population_rows
    assert rows is not None
    for t, (n, square) in enumerate(zip(rows.tolist(), squares.tolist(), strict=True)):
        if n >= min_rows:
            yield t, (square / count) ** 0.5


def squared_error(mean: Tensor, var: Tensor, right: StoredStatistics, eps: float) -> Tensor:
    """((μ̂ - μ) / σ̂)² + (σ / σ̂ - 1)² of (T, F) stored moments."""
    assert right.population_mean is not None
    assert right.population_var is not None
    stored = (var.double() + eps).sqrt()
    shift = (mean.double() - right.population_mean.double()) / stored
    scale = (right.population_var.double() + eps).sqrt() / stored - 1
    return shift.square() + scale.square()


def at_rest(model: SequenceTask, batches: Iterable[Batch]) -> SequenceTask:
    """A copy whose running averages have seen one more pass of training batches, with weights that rested before.

    They start from the population statistics, where averages settle that are taken of unchanging weights, apart from
    the spread of variances between batches. What they are then worth they owe to noise; what the trained ones are
    worth less, to lagging behind the weights.

    Args:
        model: a recalibrated task, whose normalizers over steps are all `BatchNorm`.
        batches: one pass.
    """
    rested = deepcopy(model).eval()
    for norm in per_step(rested):
        stats = norm.stats
        assert stats.population_mean is not None
        assert stats.population_var is not None
        stats.running_mean.copy_(stats.population_mean)
        stats.running_var.copy_(stats.population_var)
        norm.training = True
    with torch.no_grad():
        for batch in batches:
            rested.scores(batch)
    return rested.eval()


def can_rest(model: SequenceTask) -> bool:
    """Whether `at_rest` makes sense: there are running averages, and training does not read them."""
    norms = per_step(model)
    return bool(norms) and all(type(norm) is BatchNorm and not norm.frozen for norm in norms)
