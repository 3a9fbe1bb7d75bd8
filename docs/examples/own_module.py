"""A LightningModule of one's own, which knows nothing of rnnnorm's tasks but the shape of the data.

    rnnnorm compare --data Names --data-dir data --model own_module.Classifier --norms none,ln,bn-timestep

from the folder in which this file lies.
"""

from __future__ import annotations

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import rnnnorm
from rnnnorm.data import Batch, Spec


class Classifier(L.LightningModule):
    """One class per sequence of tokens. `metric` names what is logged as val/<metric> and test/<metric>."""

    metric = "accuracy"
    metric_mode = "max"

    def __init__(self, spec: Spec, norm: str = "none", width: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocabularies[0], width)
        self.lstm = rnnnorm.LSTM(width, width, norm=norm, max_steps=spec.max_length)
        self.head = nn.Linear(width, spec.num_outputs)

    def forward(self, input: PackedSequence) -> Tensor:
        """Packed token ids → logits (B, C)."""
        _, (h_n, _) = self.lstm(input._replace(data=self.embedding(input.data[:, 0])))
        return self.head(h_n[-1])

    def encode(self, batch: Batch) -> None:
        """Run the LSTM over a batch, for population statistics."""
        self(batch.input)

    def _step(self, batch: Batch, stage: str) -> Tensor:
        logits = self(batch.input)
        loss = F.cross_entropy(logits, batch.target)
        size = len(batch.target)
        self.log(f"{stage}/loss", loss, batch_size=size)
        self.log(f"{stage}/accuracy", (logits.argmax(1) == batch.target).float().mean(), batch_size=size)
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean loss of a batch."""
        return self._step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log loss and accuracy."""
        self._step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log loss and accuracy."""
        self._step(batch, "test")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=2e-3)
