"""Language modelling: the next token of each row."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from rnnnorm.data.base import Spec
from rnnnorm.tasks.base import SequenceTask
from rnnnorm.tasks.metrics import BitsPerToken, MeanNLL, Perplexity

UNITS: dict[str, tuple[str, type[MeanNLL]]] = {"word": ("perplexity", Perplexity), "char": ("bpc", BitsPerToken)}


class LanguageModelling(SequenceTask):
    """The next token at every row; cross entropy in nats, mean over rows.

    Target: (N,) int64. On a stateful stream the state goes on from batch to batch, and gradients stop in between
    (truncated backpropagation through time).

    Args:
        spec: see `SequenceTask`.
        norm: see `SequenceTask`.
        unit: "word": the metric is `perplexity`, exp of the mean NLL; "char": it is `bpc`, bits per character.
        tied: the head has the embeddings for its weights (Press & Wolf 2017); they start as those of the head do.
        **keys: all other keys of `SequenceTask`.

    Raises:
        ValueError: another unit; `bidirectional`, since the backward direction has read the target; `tied` where
            embeddings and head differ in size, or are to stay as they are.
    """

    task = "language-modelling"
    per_row = True
    metric = "perplexity"
    metric_mode = "min"

    def __init__(
        self,
        spec: Spec | dict[str, Any],
        norm: str = "none",
        *,
        unit: Literal["word", "char"] = "word",
        tied: bool = False,
        **keys: Any,
    ) -> None:
        # Plain attributes, wanted by the base's constructor; the class attribute remains the default.
        self.metric, self._metric_class = UNITS[unit]
        super().__init__(spec, norm, **keys)
        if tied:
            self._tie()

    def _tie(self) -> None:
        shapes = [tuple(embedding.get_parameter("weight").shape) for embedding in self.embedding.embeddings]
        if shapes != [tuple(self.head.weight.shape)]:
            raise ValueError(
                f"tied embeddings must be those of one column, of the shape of the head {tuple(self.head.weight.shape)}"
                f", got {shapes}: choose embedding_size={self.recurrent.output_size}"
            )
        if self.hparams["freeze_embeddings"]:
            raise ValueError("freeze_embeddings would freeze the head, too, where embeddings are tied to it")
        self.embedding.embeddings[0].weight = self.head.weight

    def _check(self, spec: Spec, bidirectional: bool) -> None:
        super()._check(spec, bidirectional)
        if bidirectional:
            raise ValueError("a language model cannot be bidirectional: the backward direction has read the target")

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Negative log-likelihood of each token, (N,)."""
        return F.cross_entropy(logits, target, self.class_weight, reduction="none")

    def metrics(self) -> dict[str, Metric]:
        """Perplexity or bits per character."""
        return {self.metric: self._metric_class()}

    def observed(self, logits: Tensor, target: Tensor, losses: Tensor) -> tuple[Tensor, ...]:
        """The losses: both metrics are functions of their mean."""
        return (losses,)
