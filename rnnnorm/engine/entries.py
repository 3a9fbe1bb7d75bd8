"""Entries of a run in TensorBoard beside its curves: hyperparameters, and the results of the final test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnnnorm.engine.evaluation import MODES
from rnnnorm.engine.records import events
from rnnnorm.engine.run import Run


def hyperparameters(model_options: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """What TensorBoard's HParams tab shows of a run: few columns, since the tab opens with the first five.

    All else is the same in all runs of a comparison and stands in `compare.yaml`.

    Args:
        model_options: constructor arguments of the model, by name.
        run: whose values of its own are shown, too.
    """
    sizes = {key: model_options[key] for key in ("hidden_size", "num_layers", "learning_rate") if key in model_options}
    tuned = {key: value for key, value in run.values if key.removeprefix("model.") not in sizes}
    return {"norm": run.norm, "seed": run.seed, **sizes, **tuned}


def unknown(metric: str) -> dict[str, float]:
    """Tags of the final test results, `test/accuracy_population`, …, before there are any."""
    return {f"test/{name}_{mode}": math.nan for name in dict.fromkeys((metric, "loss")) for mode in MODES}


def log_final(folder: Path, result: Mapping[str, Any]) -> None:
    """Final results as curves: test values at the last step, the tables by length and step over length and step.

    Args:
        folder: of the run.
        result: its `result.json`.
    """
    metric = result["metric"]
    with events(folder, "final") as writer:
        for mode, values in result["test"].items():
            for name in dict.fromkeys((metric, "loss")):
                if name in values:
                    writer.add_scalar(f"test/{name}_{mode}", values[name], result["steps"])
        score = metric if result["metric_mode"] == "max" else "score"
        for axis, buckets in result["buckets"].items():
            for bucket in buckets:
                for mode in MODES:
                    writer.add_scalar(f"test_by_{axis}/{score}_{mode}", bucket[mode], bucket["high"])
