"""Optimizers by name, so that a run is described by plain numbers and words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn, optim

OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "sgd": optim.SGD,
    "rmsprop": optim.RMSprop,
}
WITH_MOMENTUM = ("sgd", "rmsprop")


def check_optimizer(name: str, momentum: float, lr_decay: float) -> None:
    """Complain about optimizer keys before any training.

    Raises:
        ValueError: an unknown optimizer; momentum for one that has none; a decay outside (0, 1].
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; there are: {', '.join(OPTIMIZERS)}")
    if momentum and name not in WITH_MOMENTUM:
        raise ValueError(f"momentum={momentum} has no meaning for {name!r}: only {' and '.join(WITH_MOMENTUM)} have it")
    if not 0 < lr_decay <= 1:
        raise ValueError(f"lr_decay must be in (0, 1], got {lr_decay}")


def build_optimizer(
    parameters: Iterable[nn.Parameter], name: str, learning_rate: float, weight_decay: float, momentum: float
) -> optim.Optimizer:
    """Build the optimizer of that name, with torch's defaults for all else.

    Args:
        parameters: what to train.
        name: one of `OPTIMIZERS`.
        learning_rate: step size.
        weight_decay: L2 penalty; decoupled from the gradient in "adamw".
        momentum: of "sgd" and "rmsprop".
    """
    keys: dict[str, Any] = {"lr": learning_rate, "weight_decay": weight_decay}
    if name in WITH_MOMENTUM:
        keys["momentum"] = momentum
    return OPTIMIZERS[name](parameters, **keys)
