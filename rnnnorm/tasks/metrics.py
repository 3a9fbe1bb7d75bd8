"""Metrics that are functions of the mean negative log-likelihood and do not need the logits again."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torchmetrics import MeanMetric


class MeanNLL(MeanMetric):
    """Mean negative log-likelihood in nats; `update` takes the losses (M,) of a batch, all weighted alike.

    Losses that are not numbers stay so instead of being left out: a run that diverged has no likelihood.
    """

    def __init__(self, **kw: Any) -> None:
        super().__init__(nan_strategy="disable", **kw)


class Perplexity(MeanNLL):
    """exp(mean NLL): equals `torchmetrics.text.Perplexity`, without a second softmax over the vocabulary."""

    def compute(self) -> Tensor:
        """The exponential of the mean over all batches since the last reset."""
        return super().compute().exp()


class BitsPerToken(MeanNLL):
    """Mean NLL / ln 2; of characters: bits per character."""

    def compute(self) -> Tensor:
        """The mean over all batches since the last reset, in bits."""
        return super().compute() / math.log(2)
