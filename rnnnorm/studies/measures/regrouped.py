"""One network on the same sequences in batches of any size: what a prediction owes to its company."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from itertools import islice

import torch
from torch import Tensor

from rnnnorm.data.base import Batch, Task
from rnnnorm.data.collate import Example, collate
from rnnnorm.norms import statistics
from rnnnorm.tasks import SequenceTask
from rnnnorm.tasks.scores import Scores

BIT = math.log(2)
MODES = ("running", "population", "batch", "training")


def regrouped(examples: Iterable[Example], task: Task, size: int, limit: int | None = None) -> Iterator[Batch]:
    """The first sequences in batches of `size`, those of similar length together, as loaders make them.

    Args:
        examples: sequences with their targets.
        task: see `rnnnorm.data.Spec`.
        size: sequences per batch; the last batch may have fewer.
        limit: take that many sequences; None: all.

    Raises:
        ValueError: a size below 1.
    """
    if size < 1:
        raise ValueError(f"a batch has at least 1 sequence, got a size of {size}")
    ordered = sorted(islice(examples, limit), key=lambda example: -len(example[0]))
    for start in range(0, len(ordered), size):
        yield collate(ordered[start : start + size], task)


def twins(examples: Iterable[Example], task: Task, limit: int | None = None) -> Iterator[Batch]:
    """Each sequence in a batch with a copy of itself, whose own statistics are those of a batch of one: variance 0.

    Args:
        examples: sequences with their targets.
        task: see `rnnnorm.data.Spec`.
        limit: take that many sequences; None: all.
    """
    for example in islice(examples, limit):
        yield collate([example, example], task)


@torch.no_grad()
def scored(model: SequenceTask, batches: Sequence[Batch], mode: str) -> Scores:
    """Every prediction of some batches, under one kind of statistics.

    Args:
        model: in evaluation mode; it is left as it is.
        batches: what to predict.
        mode: "running", "population" or "batch", see `rnnnorm.statistics`; "training": as training, by a copy
            whose averages move on meanwhile as they do in training.

    Raises:
        ValueError: another mode, or no batch.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if not batches:
        raise ValueError("there is no batch to predict")
    if mode == "training":
        twin = deepcopy(model).train()
        found = [twin.scores(batch) for batch in batches]
    else:
        with statistics(model, mode):
            found = [model.scores(batch) for batch in batches]
    return Scores(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def mean_bits(scores: Scores) -> float:
    """Mean negative log-likelihood per prediction, in bits."""
    return float(scores.loss.double().mean()) / BIT


def bits_by_step(scores: Scores, width: int) -> Iterator[tuple[int, float, int]]:
    """Mean bits of the predictions of `width` steps each: first step, mean, count; empty ranges are left out.

    Raises:
        ValueError: a width below 1.
    """
    if width < 1:
        raise ValueError(f"a range has at least 1 step, got a width of {width}")
    places: Tensor = scores.step // width
    for place in torch.unique(places).tolist():
        inside = scores.loss[places == place]
        yield int(place) * width, float(inside.double().mean()) / BIT, len(inside)
