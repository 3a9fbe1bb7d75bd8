"""What a network that diverged is worth: a guess."""

from __future__ import annotations

import math

from rnnnorm.studies.framework.trained import CLASSIFIERS, Trained


def guess(trained: Trained) -> float:
    """The accuracy of guessing one of the classes; minus infinity where targets are no classes."""
    shape = trained.spec
    return 1 / shape.num_outputs if shape.task in CLASSIFIERS else -math.inf


def score(trained: Trained, mode: str = "population") -> float:
    """Test metric of the best checkpoint, larger being better; that of guessing for a network that diverged."""
    result = trained.result
    if trained.diverged:
        return guess(trained)
    sign = 1.0 if result["metric_mode"] == "max" else -1.0
    return sign * float(result["test"][mode][result["metric"]])
