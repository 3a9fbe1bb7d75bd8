"""Classification of sequences: one class each."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from rnnnorm.data.base import Task
from rnnnorm.tasks.base import SequenceTask


class Classification(SequenceTask):
    """One class per sequence, read off the last state of the top layer; cross entropy in nats.

    Target: (B,) int64. Metrics: `accuracy`, the fraction of sequences whose most probable class is the right one, and
    in validation and test `f1`, the mean of the classes' F1 scores (macro).
    """

    task: ClassVar[Task] = "classification"
    per_row = False
    metric = "accuracy"
    metric_mode = "max"

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross entropy of each sequence, (B,)."""
        return F.cross_entropy(logits, target, self.class_weight, reduction="none")

    def metrics(self) -> dict[str, Metric]:
        """Accuracy and macro F1."""
        classes = self.spec.num_outputs
        return {
            "accuracy": MulticlassAccuracy(classes, average="micro"),
            "f1": MulticlassF1Score(classes, average="macro"),
        }

    def contributions(self, logits: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        """1 where the class is right, else 0."""
        return (logits.argmax(1) == target).to(losses.dtype)
