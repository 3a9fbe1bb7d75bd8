"""What is measured of a network trained on ragged sequences: scores by step, stored statistics by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from numpy.typing import NDArray

from rnnnorm.data.base import Batch
from rnnnorm.engine.evaluation import MODES, batch_lengths
from rnnnorm.norms import statistics
from rnnnorm.studies.data.rearranged import Rearranged, tail_start
from rnnnorm.studies.framework import Row, in_every_mode
from rnnnorm.studies.measures.stored import at_rest, can_rest, moments_by_step, off_by, per_step
from rnnnorm.tasks import SequenceTask

AT_REST = "at rest"
SHARES = (0.0, 0.25, 0.5, 0.75, 0.875, 0.9375, 0.97)
"""Where the buckets of steps begin, as shares of the test predictions: finer towards the tail."""


def measure(model: SequenceTask, data: LightningDataModule) -> Iterator[Row]:
    """Evaluate a trained network by every kind of statistics.

    - `score`, with `region` "all", "early" (before t*) or "late", and `mode`: the mean metric, larger being better, so
      that losses have their sign turned; and `gap`, with `region`: by the batch's own statistics minus by running ones.
    - `bucket` with `mode`, `t` (first step of the bucket), `last` and `count`: the same by step.
    - `late_start`: t*, where there are late predictions.
    - `active` with `t`: rows of the training batches that reach step t, on average; `visits`: the share of batches
      that do.
    - `off_by` with `mode` and `t`: see `rnnnorm.studies.measures.stored`.

    Args:
        model: in evaluation mode.
        data: what it was trained and is tested on.
    """
    train, test = list(data.train_dataloader()), list(data.test_dataloader())
    yield from _active(train)
    start = late_start(data, train)
    sign = 1.0 if model.metric_mode == "max" else -1.0
    found = {mode: _scores(model, test, sign) for mode in in_every_mode(model, train)}
    scored = dict.fromkeys(MODES, found["running"]) | found
    if can_rest(model):
        rested = at_rest(model, train)
        with statistics(rested, "running"):
            scored[AT_REST] = _scores(rested, test, sign)
    yield from _summary(scored, start)
    yield from _buckets(scored)
    if per_step(model):
        steps = max(len(batch.input.batch_sizes) for batch in test)
        for mode, way in (("running", "pooled"), ("population", "consistent")):
            target = moments_by_step(model, test, steps, way)
            for t, error in off_by(model, target, mode):
                if shown(t):
                    yield {"quantity": "off_by", "mode": mode, "t": t, "value": error}


def late_start(data: LightningDataModule, train: Sequence[Batch]) -> int:
    """t*: the first step that fewer than one in 16 training sequences reach.

    Of data whose tail was made thin it is that of the original data; of data whose training sequences were limited in
    length, the first step beyond the limit.
    """
    source: Any = data.data if isinstance(data, Rearranged) else data
    limit = getattr(source, "max_train_length", None)
    if limit is not None:
        return int(limit)
    if hasattr(source, "lengths"):
        return tail_start(source.lengths("train"))
    return tail_start([int(n) for batch in train for n in batch_lengths(batch.input.batch_sizes)])


def shown(t: int) -> bool:
    """Whether a step is among those written down: the first ones, and then fewer and fewer."""
    return t < 12 or t % (2 if t < 40 else 4 if t < 120 else 32) == 0


def _scores(
    model: SequenceTask, batches: Sequence[Batch], sign: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Score and step of each prediction."""
    parts = [model.scores(batch) for batch in batches]
    score = sign * torch.cat([part.score for part in parts]).double().cpu().numpy()
    return score, torch.cat([part.step for part in parts]).cpu().numpy()


def _active(batches: Sequence[Batch]) -> Iterator[Row]:
    sizes = [batch.input.batch_sizes.tolist() for batch in batches]
    for t in range(max(map(len, sizes))):
        if shown(t):
            reached = [size[t] for size in sizes if len(size) > t]
            yield {"quantity": "active", "t": t, "value": float(np.mean(reached))}
            yield {"quantity": "visits", "t": t, "value": len(reached) / len(sizes)}


def _summary(scored: dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]], start: int) -> Iterator[Row]:
    steps = scored["running"][1]
    parts = {"all": steps >= 0, "early": steps < start, "late": steps >= start}
    if not parts["late"].any() or not parts["early"].any():
        parts = {"all": parts["all"]}
    else:
        yield {"quantity": "late_start", "value": start}
    for name, inside in parts.items():
        means = {mode: float(score[inside].mean()) for mode, (score, _) in scored.items()}
        for mode, value in means.items():
            yield {"quantity": "score", "region": name, "mode": mode, "value": value}
        yield {"quantity": "gap", "region": name, "value": means["batch"] - means["running"]}


def _buckets(scored: dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]]) -> Iterator[Row]:
    ordered = np.sort(scored["running"][1])
    starts = np.unique(ordered[[int(share * len(ordered)) for share in SHARES]])
    for k, low in enumerate(starts):
        high = starts[k + 1] if k + 1 < len(starts) else ordered[-1] + 1
        for mode, (score, steps) in scored.items():
            inside = (steps >= low) & (steps < high)
            where = {"t": int(low), "last": int(high) - 1, "count": int(inside.sum())}
            yield {"quantity": "bucket", "mode": mode, **where, "value": float(score[inside].mean())}
