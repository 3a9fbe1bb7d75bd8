"""Optimizers and schedules by name, so that a run is described by plain numbers and words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn, optim
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, LRScheduler, ReduceLROnPlateau

OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "sgd": optim.SGD,
    "rmsprop": optim.RMSprop,
}
WITH_MOMENTUM = ("sgd", "rmsprop")


PLATEAU = "plateau"


def check_optimizer(name: str, momentum: float, smoothing: float | None) -> None:
    """Complain about keys of another optimizer before any training.

    Raises:
        ValueError: the optimizer has no momentum, or no smoothing constant.
    """
    if momentum and name not in WITH_MOMENTUM:
        raise ValueError(f"momentum={momentum} has no meaning for {name!r}: only {' and '.join(WITH_MOMENTUM)} have it")
    if smoothing is not None and name != "rmsprop":
        raise ValueError(f"smoothing={smoothing} has no meaning for {name!r}: only rmsprop has it")


def check_schedule(decay: float, after: int | str | None) -> None:
    """Complain about a schedule before any training.

    Raises:
        ValueError: neither a number of epochs nor "plateau"; or there is no decay to begin.
    """
    if after is not None and after != PLATEAU and (isinstance(after, str) or after < 1):
        raise ValueError(f"lr_decay_after must be a number of epochs from 1 on, {PLATEAU} or None, got {after!r}")
    if after is not None and decay == 1:
        raise ValueError(f"lr_decay_after={after!r} has no meaning where the rate does not decay: set lr_decay")


def build_optimizer(
    parameters: Iterable[nn.Parameter],
    name: str,
    learning_rate: float,
    weight_decay: float,
    momentum: float,
    smoothing: float | None = None,
) -> optim.Optimizer:
    """Build the optimizer of that name, with torch's defaults for all else.

    Args:
        parameters: what to train.
        name: one of `OPTIMIZERS`.
        learning_rate: step size.
        weight_decay: L2 penalty; decoupled from the gradient in "adamw".
        momentum: of "sgd" and "rmsprop".
        smoothing: of "rmsprop", the α of v ← α v + (1 - α) g²; None: torch's 0.99.
    """
    keys: dict[str, Any] = {"lr": learning_rate, "weight_decay": weight_decay}
    if name in WITH_MOMENTUM:
        keys["momentum"] = momentum
    if smoothing is not None:
        keys["alpha"] = smoothing
    return OPTIMIZERS[name](parameters, **keys)


def with_schedule(optimizer: optim.Optimizer, decay: float, after: int | str | None) -> OptimizerLRScheduler:
    """The optimizer with the learning rates of a run: η_e = η_1 d^max(0, e - n) in epoch e = 1, 2, …

    Args:
        optimizer: it has η_1.
        decay: d; 1: the rate is constant.
        after: n, epochs with a rate of η_1; None: one; "plateau": η is multiplied by d after each epoch whose
            `val/loss` is no new minimum.
    """
    if decay == 1:
        return optimizer
    if after == PLATEAU:
        lowest = ReduceLROnPlateau(optimizer, factor=decay, patience=0, threshold=0.0, eps=0.0)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": lowest, "interval": "epoch", "monitor": "val/loss"},
        }
    schedule: LRScheduler = ExponentialLR(optimizer, decay)
    if after is not None:
        schedule = LambdaLR(optimizer, _Decay(decay, int(after)))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


class _Decay:
    """Factor of the learning rate after a number of epochs; an object, for a schedule's state to hold it."""

    def __init__(self, decay: float, constant: int) -> None:
        self.decay, self.constant = decay, constant

    def __call__(self, epochs: int) -> float:
        return float(self.decay ** max(0, epochs + 1 - self.constant))
