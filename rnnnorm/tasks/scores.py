"""Scores per prediction instead of per batch, for tables by length and by timestep."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Scores(NamedTuple):
    """The M predictions of a batch, one entry each.

    Sequences (M = B) for tasks with one target per sequence, rows (M = N) for tasks with one per row, in the order of
    the batch's target. The means over all entries of a data set are its loss and, for a metric that is a mean, its
    metric (perplexity is the exponential of the mean, bits per character the mean divided by ln 2).

    Args:
        loss: (M,) loss of each prediction, in nats for likelihoods.
        score: (M,) what each contributes to the metric: 0 or 1 for accuracy, the loss for likelihoods, the squared
            error for regression.
        length: (M,) int64, steps of the sequence it belongs to.
        step: (M,) int64, its timestep, counted from 0; the last one of the sequence for one target per sequence.
    """

    loss: Tensor
    score: Tensor
    length: Tensor
    step: Tensor
