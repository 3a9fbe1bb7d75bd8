"""Validation scores of a run, as long as it has not diverged."""

from __future__ import annotations

import math
from typing import Any

from lightning import Callback, LightningModule, Trainer

from rnnnorm.engine.checkpoints import diverged_at


class ValidationScores(Callback):
    """Callback that keeps each validation metric with the epoch in which it was measured, counted from 1.

    Scores that are not finite, or of a model that has diverged, are left out. They are part of the checkpoint.

    Args:
        tag: of the metric, `val/accuracy`.
    """

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.seen: list[tuple[int, float]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep one score."""
        value = float(trainer.callback_metrics.get(self.tag, math.nan))
        if not trainer.sanity_checking and diverged_at(trainer) is None and math.isfinite(value):
            self.seen.append((trainer.current_epoch + 1, value))

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"seen": list(self.seen)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what the checkpoint kept."""
        self.seen = [(int(epoch), float(value)) for epoch, value in state_dict["seen"]]
