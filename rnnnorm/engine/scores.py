"""Validation scores of a run, as long as it has not diverged."""

from __future__ import annotations

import math
from typing import Any

from lightning import Callback, LightningModule, Trainer

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
