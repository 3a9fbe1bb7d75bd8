"""Tagging: one tag per row."""

from __future__ import annotations

from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from rnnnorm.tasks.classification import Classification


class Tagging(Classification):
    """One tag per row, such as the part of speech of each word; cross entropy in nats, mean over rows.

    Target: (N,) int64. Metric: `accuracy`, the fraction of rows whose most probable tag is the right one.
    """

    task = "tagging"
    per_row = True

    def metrics(self) -> dict[str, Metric]:
        """Accuracy over rows."""
        return {"accuracy": MulticlassAccuracy(self.spec.num_outputs, average="micro")}
