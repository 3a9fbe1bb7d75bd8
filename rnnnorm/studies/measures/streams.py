"""Losses on streams: before learning from each sequence, and of sequences that are read in pieces."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from rnnnorm.data.base import Batch
from rnnnorm.studies.framework import Row, in_every_mode
from rnnnorm.studies.measures.stepwise import BIT, mean_step_losses
from rnnnorm.tasks import SequenceTask

POINTS = 40
MODES = ("population", "running")


def prequential(losses: Sequence[float], size: int, guess: float) -> Iterator[Row]:
    """`diverged`, the mean `loss` of the second half, and `prequential` loss by the number `t` of sequences seen.

    Args:
        losses: of every batch before it was learned from, infinite from where training diverged.
        size: sequences per batch.
        guess: the loss of a stream that diverged.
    """
    late = losses[len(losses) // 2 :]
    finite = math.isfinite(late[-1])
    yield {"quantity": "diverged", "value": float(not finite)}
    yield {"quantity": "loss", "value": sum(late) / len(late) if finite else guess}
    block = max(len(losses) // POINTS, 1)
    for start in range(0, len(losses) - block + 1, block):
        mean = sum(losses[start : start + block]) / block
        if math.isfinite(mean):
            yield {"quantity": "prequential", "t": (start + block) * size, "value": mean}


def reading(
    task: SequenceTask, batches: Sequence[Batch], calibration: Iterable[Batch], sizes: Sequence[int]
) -> Iterator[Row]:
    """`loss` in nats by `mode` and `chunk`, the number of steps that are read at a time; the last is the whole.

    Args:
        task: a trained network.
        batches: sequences of T steps, with a target per row.
        calibration: batches from which population statistics are taken.
        sizes: of pieces; those of T steps or more are left out.
    """
    T = len(batches[0].input.batch_sizes)
    for mode in in_every_mode(task, calibration, MODES):
        for size in (*(size for size in sizes if size < T), T):
            mean = float(mean_step_losses(task, batches, size).double().mean())
            yield {"quantity": "loss", "mode": mode, "chunk": size, "value": mean * BIT}
