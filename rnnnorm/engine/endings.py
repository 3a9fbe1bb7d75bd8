"""Endings: what ended a training, and what qualifies the time it took."""

from __future__ import annotations

from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason


def ended_by(trainer: Trainer) -> str:
    """What ended a training that has finished: "max_steps", "max_epochs", "max_time", or a callback by its class."""
    if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
        return "max_steps"
    if trainer.max_epochs not in (None, -1) and trainer.current_epoch >= trainer.max_epochs:
        return "max_epochs"
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if isinstance(callback, EarlyStopping) and callback.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
            return type(callback).__name__
    return "max_time" if any(isinstance(callback, Timer) for callback in callbacks) else "a callback"


def timing(trainer: Trainer, cpu: float, jobs: int | None) -> dict[str, Any]:
    """What qualifies `seconds`, the wall time of training: it depends on what else the machine has to do.

    `cpu_seconds` is the time that all threads of this process have computed in training, `device` where the network
    was, `jobs` how many runs shared the machine.
    """
    return {"cpu_seconds": round(cpu, 3), "device": trainer.strategy.root_device.type, "jobs": jobs}
