"""Streams from a source that drifts, learned from in one pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from rnnnorm.data.base import Batch, Spec
from rnnnorm.norms import auxiliary_loss
from rnnnorm.tasks import SequenceTask

FEATURES, CLASSES = 4, 4
DRIFTS = ("none", "gradual", "abrupt")
SCALE, SHIFT = 4.0, 2.0
"""What the inputs of a drifting source are multiplied by, and moved by, at the end."""


@dataclass(frozen=True)
class Stream:
    """Sequences that come one after the other, each once.

    Args:
        rows: (examples, T, 4) float32.
        classes: (examples,) int64.
    """

    rows: Tensor
    classes: Tensor

    @property
    def spec(self) -> Spec:
        """Four features, four classes."""
        return Spec("classification", num_features=FEATURES, num_outputs=CLASSES, max_length=self.rows.shape[1])

    def batches(self, size: int) -> Iterator[Batch]:
        """In the order in which they come, `size` at a time; what is left over at the end is left out."""
        for start in range(0, len(self.rows) - size + 1, size):
            part = self.rows[start : start + size].transpose(0, 1)  # time-major
            packed = PackedSequence(part.reshape(-1, FEATURES), torch.full((part.shape[0],), size))
            yield Batch(packed, self.classes[start : start + size])


def drifting(examples: int, steps: int, drift: str, seed: int) -> Stream:
    """Draw a stream: four sources, each a random mean in four dimensions under noise of variance 1.

    Under "abrupt" drift inputs are multiplied by 4 and moved by 2 from the middle of the stream on, under "gradual"
    drift more and more from its beginning to its end. What the classes are does not change.

    Args:
        examples: sequences.
        steps: of each.
        drift: one of `DRIFTS`.
        seed: of everything.

    Raises:
        ValueError: an unknown drift.
    """
    if drift not in DRIFTS:
        raise ValueError(f"drift must be one of {', '.join(DRIFTS)}, got {drift!r}")
    random = np.random.default_rng([seed, 31])
    means = random.normal(0, 0.5, (CLASSES, FEATURES))
    classes = random.integers(CLASSES, size=examples)
    rows = means[classes][:, None, :] + random.normal(size=(examples, steps, FEATURES))
    when = np.arange(examples) / examples
    share = {"none": np.zeros(examples), "gradual": when, "abrupt": (when >= 0.5).astype(float)}[drift][:, None, None]
    rows = rows * SCALE**share + SHIFT * share
    return Stream(torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(classes))


def test_then_train(task: SequenceTask, stream: Stream, size: int, clip: float | None) -> list[float]:
    """The prequential loss of every batch: it is predicted in evaluation mode, and then learned from, once.

    Args:
        task: is trained in place.
        stream: what comes.
        size: sequences per batch.
        clip: largest norm of the gradient; None: any.

    Returns:
        the losses before learning, in nats; infinite from where one was not finite.
    """
    optimizer = task.configure_optimizers()
    losses: list[float] = []
    batches = list(stream.batches(size))
    for batch in batches:
        with torch.no_grad():
            losses.append(float(_loss(task.eval(), batch)))
        loss = _loss(task.train(), batch)
        if not (math.isfinite(losses[-1]) and torch.isfinite(loss)):
            return losses[:-1] + [math.inf] * (len(batches) - len(losses) + 1)
        optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
        loss = loss + auxiliary_loss(task)
        loss.backward()  # type: ignore[no-untyped-call]
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(task.parameters(), clip)
        optimizer.step()  # type: ignore[union-attr]
    return losses


def _loss(task: SequenceTask, batch: Batch) -> Tensor:
    logits, _ = task(batch.input)
    return task.losses(logits, batch.target).mean()
