"""Evaluation of a network right after its training; the batch size from which on a normalizer is as good as LN."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import pandas as pd

from rnnnorm.data.module import SequenceDataModule
from rnnnorm.norms import evaluates_by, has_batch_statistics
from rnnnorm.studies.data.plain_training import evaluate
from rnnnorm.studies.framework import Row, in_every_mode, where
from rnnnorm.studies.framework.selection import Rule, occurring
from rnnnorm.tasks import SequenceTask

MODES = ("population", "running", "batch")


def evaluated(task: SequenceTask, data: SequenceDataModule, train_loss: float) -> Iterable[Row]:
    """`diverged`, `train_loss`; `loss` and `score` on test data by `mode`; `test_loss`, `val_loss` as training ends.

    The last two are by population statistics, or by running ones where training itself reads those. Losses of a network
    that diverged are infinite.

    Args:
        task: is put into evaluation mode and recalibrated.
        data: what it was trained on.
        train_loss: at the end; not finite if it diverged.
    """
    diverged = not math.isfinite(train_loss)
    yield {"quantity": "diverged", "value": float(diverged)}
    yield {"quantity": "train_loss", "value": train_loss}
    own = evaluates_by(task) if has_batch_statistics(task) else "running"
    for mode in MODES if diverged else in_every_mode(task, data.train_dataloader(), MODES, repeat=True):
        loss, score = (math.inf, math.nan) if diverged else evaluate(task, data.test_dataloader())
        yield {"quantity": "loss", "mode": mode, "value": loss}
        yield {"quantity": "score", "mode": mode, "value": score}
        if mode == own:
            yield {"quantity": "test_loss", "value": loss}
            valid = math.inf if diverged else evaluate(task, data.val_dataloader())[0]
            yield {"quantity": "val_loss", "value": valid}


def crossovers(excess: pd.DataFrame, norms: Rule, needed: float) -> Iterator[str]:
    """The sentence of `crossover` for each norm.

    Args:
        excess: losses minus those of LN, by `norm` and `batch`.
        norms: which.
        needed: the smallest difference that counts.
    """
    for norm in norms(occurring(excess, "norm")):
        gaps = where(excess, norm=norm).groupby("batch")["value"].agg(lambda v: v.mean(skipna=False))
        finite = {int(size): float(gap) for size, gap in gaps.items() if math.isfinite(gap)}
        if finite:
            yield crossover(norm, finite, needed)


def crossover(norm: str, gaps: Mapping[int, float], needed: float) -> str:
    """In a sentence, from which batch size on a norm is at most `needed` nats worse than LN.

    Args:
        norm: which.
        gaps: batch size → its loss minus that of LN.
        needed: the smallest difference that counts.
    """
    sizes = sorted(gaps)
    good = [size for k, size in enumerate(sizes) if all(gaps[s] <= needed for s in sizes[k:])]
    extremes = f"{gaps[sizes[0]]:+.3f} nats at B = {sizes[0]}, {gaps[sizes[-1]]:+.3f} at B = {sizes[-1]}"
    if not good:
        return f"{norm} is worse than ln up to the largest batch ({extremes}): use ln."
    if good[0] == sizes[0]:
        return f"{norm} is as good as ln, or better, at every batch size ({extremes})."
    return f"{norm} is as good as ln, within {needed:g} nats, from B = {good[0]} on ({extremes}); below, use ln."
