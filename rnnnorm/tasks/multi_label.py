"""Multi-label prediction: any number of labels per row."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from rnnnorm.tasks.base import SequenceTask
from rnnnorm.tasks.metrics import MeanNLL


class MultiLabel(SequenceTask):
    """Any number of labels per row, such as the notes of the next chord; each an independent yes or no.

    Target: (N, num_outputs) float, 0 or 1. The loss of a row is the *sum* over labels of the binary cross entropy, so
    that the mean over rows, the metric `nll`, is the negative log-likelihood in nats per step, as it is reported for
    polyphonic music (Boulanger-Lewandowski et al., ICML 2012).

    Where the target is the next row, as in music, `bidirectional` makes the task trivial: the backward direction has
    read it.
    """

    task = "multi-label"
    per_row = True
    metric = "nll"
    metric_mode = "min"

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Negative log-likelihood of each row, (N,), summed over labels."""
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)

    def metrics(self) -> dict[str, Metric]:
        """Negative log-likelihood per step."""
        return {"nll": MeanNLL()}

    def observed(self, logits: Tensor, target: Tensor, losses: Tensor) -> tuple[Tensor, ...]:
        """The losses."""
        return (losses,)
