"""Class weights: factors of the loss by class, against unequal frequencies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

BALANCED = "balanced"


def as_weights(given: Sequence[float] | str, classes: int) -> Tensor:
    """Weights (C,) as the user says; for "balanced" ones, until the data are known.

    Raises:
        ValueError: another number of weights than classes, or one that is not a finite number of at least 0.
    """
    if isinstance(given, str):
        if given != BALANCED:
            raise ValueError(f"class_weights must be {BALANCED!r} or a weight per class, got {given!r}")
        return torch.ones(classes)
    if len(given) != classes:
        raise ValueError(f"class_weights must be {classes} numbers, one per class, got {len(given)}")
    wrong = [w for w in given if isinstance(w, bool) or not isinstance(w, int | float) or not 0 <= w < math.inf]
    if wrong or not any(given):
        raise ValueError(f"class_weights must be finite numbers of at least 0, and not all 0, got {list(given)}")
    return torch.tensor(given, dtype=torch.float32)


def balanced(data: Any, classes: int) -> Tensor:
    """Weights N / (C · n_c), with n_c of N training targets in class c; 1 where n_c is 0. Their mean over targets is 1.

    Args:
        data: a data module; its training examples are counted, or else its training batches.
        classes: C.

    Raises:
        ValueError: there is no data module.
    """
    if data is None:
        raise ValueError(f"class_weights={BALANCED!r} needs a data module to count the classes in: give it to fit")
    if hasattr(data, "examples"):
        targets = [torch.as_tensor(target).reshape(-1) for _, target in data.examples("train")]
    else:
        targets = [batch.target.reshape(-1) for batch in data.train_dataloader()]
    counts = torch.cat(targets).bincount(minlength=classes).double()
    return torch.where(counts > 0, counts.sum() / (classes * counts.clamp(min=1)), 1.0).float()
