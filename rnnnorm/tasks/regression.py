"""Regression: real numbers per sequence."""

from __future__ import annotations

from torch import Tensor
from torchmetrics import MeanSquaredError, Metric

from rnnnorm.tasks.base import SequenceTask


class Regression(SequenceTask):
    """Real numbers per sequence, read off the last state of the top layer; mean squared error.

    Target: (B, num_outputs) float. The loss of a sequence is the mean over its outputs, and so is the metric, `mse`, in
    squared units of the target.
    """

    task = "regression"
    per_row = False
    metric = "mse"
    metric_mode = "min"

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Squared error of each sequence, (B,), mean over outputs."""
        if logits.shape != target.shape:
            raise ValueError(f"target must be {tuple(logits.shape)}, got {tuple(target.shape)}")
        return (logits - target).square().mean(1)

    def metrics(self) -> dict[str, Metric]:
        """Mean squared error over sequences and outputs."""
        return {"mse": MeanSquaredError()}
