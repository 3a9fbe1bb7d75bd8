"""Scores of a run while it trains: on the validation split, as long as it has not diverged, and what was minimized."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from rnnnorm.engine.checkpoints import diverged_at


class ValidationScores(Callback):
    """Callback that keeps each validation metric with the epoch in which it was measured, counted from 1.

    Scores that are not finite, such as the perplexity of a loss of 100, or of a model that has diverged, are left out;
    only `validations` counts them. Both are part of the checkpoint.

    Args:
        tag: of the metric, `val/accuracy`.
    """

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.seen: list[tuple[int, float]] = []
        self.validations = 0
        """How many there were that measured the metric."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep one score."""
        if trainer.sanity_checking or self.tag not in trainer.callback_metrics:
            return
        self.validations += 1
        value = float(trainer.callback_metrics[self.tag])
        if diverged_at(trainer) is None and math.isfinite(value):
            self.seen.append((trainer.current_epoch + 1, value))

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"seen": list(self.seen), "validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what the checkpoint kept."""
        self.seen = [(int(epoch), float(value)) for epoch, value in state_dict["seen"]]
        self.validations = state_dict.get("validations", len(self.seen))  # of earlier versions: those that were finite


class TrainingLoss(Callback):
    """Callback that keeps the mean of what was minimized over the batches of the last epoch; part of the checkpoint.

    It includes auxiliary losses of normalizers, and is measured as the network was trained: with dropout, by each
    batch's own statistics. Of several processes each keeps that of its own batches.
    """

    def __init__(self) -> None:
        self.epoch, self.batches = -1, 0
        self.total: Tensor | float = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add one batch; nothing waits for a GPU here."""
        if trainer.current_epoch != self.epoch:
            self.epoch, self.batches, self.total = trainer.current_epoch, 0, 0.0
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            self.total, self.batches = self.total + loss.detach(), self.batches + 1

    @property
    def mean(self) -> float | None:
        """The mean; None before the first batch."""
        return float(self.total) / self.batches if self.batches else None

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"epoch": self.epoch, "batches": self.batches, "total": float(self.total)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what the checkpoint kept."""
        self.epoch, self.batches, self.total = (state_dict[name] for name in ("epoch", "batches", "total"))
