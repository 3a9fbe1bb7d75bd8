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


def check_momentum(name: str, momentum: float) -> None:
    """Complain about momentum before any training.

    Raises:
        ValueError: the optimizer has none.
    """
    if momentum and name not in WITH_MOMENTUM:
        raise ValueError(f"momentum={momentum} has no meaning for {name!r}: only {' and '.join(WITH_MOMENTUM)} have it")


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
