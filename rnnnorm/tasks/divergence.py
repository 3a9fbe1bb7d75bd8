"""Divergence of a run: the step is recorded, training stops, and the weights stay as they were."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer


class StopOnDivergence(L.Callback):
    """Callback that stops training at the first loss that is not finite, in training or in validation.

    A training loss is looked at before the optimizer's step, and that step and all later ones change nothing: the
    weights are those that gave the loss. (Running statistics have seen the batch.) Nothing is raised, and other
    callbacks see an ordinary end. The loss is read on the host at every step, which waits for the device.

    Attributes:
        diverged_at: `global_step`, the optimizer steps taken so far, when it happened; None while all is well. It is
            part of the checkpoint: a run resumed after it diverged stops again.
        stage: "train" or "val", where it happened.
    """

    def __init__(self) -> None:
        self.diverged_at: int | None = None
        self.stage: str | None = None

    @property
    def diverged(self) -> bool:
        """True once a loss that is not finite has been seen."""
        return self.diverged_at is not None

    def _look(self, trainer: L.Trainer, stage: str, loss: Tensor) -> None:
        # All processes must agree: one that stopped alone would leave the others waiting for its gradients.
        bad = trainer.strategy.reduce_boolean_decision(not bool(torch.isfinite(loss).all()), all=False)
        if bad and not self.diverged:
            self.diverged_at, self.stage = trainer.global_step, stage
        trainer.should_stop = trainer.should_stop or self.diverged

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Do not go on with a run that had diverged."""
        trainer.should_stop = trainer.should_stop or self.diverged

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Look at the training loss."""
        self._look(trainer, "train", loss.detach())

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Take the gradients away, so that the step changes nothing, not even by momentum or weight decay."""
        if self.diverged:
            optimizer.zero_grad(set_to_none=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the validation loss."""
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._look(trainer, "val", loss)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"diverged_at": self.diverged_at, "stage": self.stage}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what the checkpoint kept."""
        self.diverged_at, self.stage = state_dict["diverged_at"], state_dict["stage"]
