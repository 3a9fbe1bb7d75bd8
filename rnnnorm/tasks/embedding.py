"""Input layer of a task: rows of token ids or of features become rows of real numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnnnorm.common.ranges import Checked, Range, at_least, one_of
from rnnnorm.data.base import Spec

COLUMNS = ("sum", "concatenate")


class InputLayer(Checked, nn.Module):
    """Rows of a batch → rows of the recurrent layer, (N, K) int64 or (N, F) float → (N, output_size).

    Token ids are looked up in one `torch.nn.Embedding` per column, and the K vectors of a row are summed or put side
    by side. With `embedding_size=0` the ids of a single column become one-hot rows. Features pass through as they are.
    There is no padding index, since there is no padding.

    Args:
        spec: of the data; it says whether rows are ids or features, and of what vocabularies.
        embedding_size: numbers per token; 0: one-hot; without effect on features.
        columns: "sum" or "concatenate", for K > 1.

    Raises:
        ValueError: the data have neither vocabularies nor features, or both; a negative size; one-hot rows of more than
            one column; an unknown way of putting columns together; in the forward pass, rows of another width.
    """

    ranges: ClassVar[Mapping[str, Range]] = {
        "embedding_size": at_least(0, why="where 0 is one-hot"),
        "columns": one_of(*COLUMNS),
    }

    def __init__(self, spec: Spec, embedding_size: int, columns: str = "sum") -> None:
        super().__init__()
        if bool(spec.vocabularies) == bool(spec.num_features):
            raise ValueError(
                f"rows are either token ids or features: expected vocabularies or num_features, "
                f"got vocabularies={spec.vocabularies} and num_features={spec.num_features}"
            )
        if embedding_size == 0 and len(spec.vocabularies) > 1:
            raise ValueError(f"embedding_size=0 (one-hot) needs one column of tokens, got {len(spec.vocabularies)}")
        self.vocabularies, self.columns = tuple(spec.vocabularies), columns
        self.num_columns = len(spec.vocabularies) or spec.num_features
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, embedding_size) for size in spec.vocabularies if embedding_size
        )
        if not self.embeddings:
            self.output_size = spec.num_features or spec.vocabularies[0]
        else:
            self.output_size = embedding_size * (len(self.embeddings) if columns == "concatenate" else 1)

    def forward(self, rows: Tensor) -> Tensor:
        """Embed rows: (N, K) or (N, F) → (N, output_size)."""
        if rows.dim() != 2 or rows.shape[1] != self.num_columns:
            raise ValueError(f"rows must be (N, {self.num_columns}), got shape {tuple(rows.shape)}")
        if not self.vocabularies:
            return rows
        if not self.embeddings:
            return F.one_hot(rows[:, 0], self.vocabularies[0]).to(torch.get_default_dtype())
        parts = [embedding(rows[:, k]) for k, embedding in enumerate(self.embeddings)]
        return torch.cat(parts, 1) if self.columns == "concatenate" else torch.stack(parts).sum(0)

    def extra_repr(self) -> str:
        """Output width, and how columns are put together."""
        return f"output_size={self.output_size}, columns={self.columns}"
