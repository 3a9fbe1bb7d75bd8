"""Main hyperparameters of a comparison, as labels and values for a page."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rnnnorm.report.tuning import plain, read_tuning


def hyperparameters(out: Path) -> list[tuple[str, str]]:
    """The network, its training and its learning rates, as far as `compare.yaml` and `tuning.json` say them.

    Args:
        out: the folder of a comparison.

    Returns:
        pairs of label and value; none where the files are missing or hold something else.
    """
    try:
        config = yaml.safe_load((out / "compare.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        config = None
    model, data, trainer = (_group(config, name) for name in ("model", "data", "trainer"))
    found = []
    if model.get("network"):
        found.append(("network", str(model["network"])))
    elif size := model.get("hidden_size"):
        layers, cell = model.get("num_layers", 1), str(model.get("cell", "lstm")).upper()
        both = ", bidirectional" if model.get("bidirectional") else ""
        found.append(("network", f"{cell}, {layers} layer{'s' * (layers != 1)} of {size}{both}"))
    if model.get("dropout"):
        found.append(("dropout", f"{model['dropout']:g}"))
    parts = [str(model[key]) for key in ("optimizer",) if model.get(key)]
    parts += [f"batches of {data['batch_size']}"] if data.get("batch_size") else []
    limits = {"max_epochs": "epochs", "max_steps": "steps"}
    parts += [
        f"{value:,} {noun}" for key, noun in limits.items() if isinstance(value := trainer.get(key), int) and value > 0
    ]
    parts += [f"gradients clipped at {trainer['gradient_clip_val']:g}"] if trainer.get("gradient_clip_val") else []
    found += [("training", ", ".join(parts))] if parts else []
    return [*found, *_rates(out, model)]


def _rates(out: Path, model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Learning rate, and what else was tuned: the range of the norms' medians."""
    found, tuning = {}, read_tuning(out)
    if isinstance(rate := model.get("learning_rate"), int | float):
        found["learning rate"] = f"{rate:g}"
    if tuning is None:
        return list(found.items())
    for key in tuning.numeric:
        chosen = [
            [float(c.values[key]) for c in tuning.choices if c.norm == norm and c.values] for norm in tuning.norms
        ]
        medians = [statistics.median(its) for its in chosen if its]
        if medians and all(map(math.isfinite, medians)):
            found[plain(key)] = f"{min(medians):.3g} to {max(medians):.3g}, tuned norm by norm"
    return list(found.items())


def _group(config: Any, name: str) -> Mapping[str, Any]:
    """A group of a configuration, with or without a class; empty if it is none."""
    group = config.get(name) if isinstance(config, dict) else None
    inner = group.get("init_args", group) if isinstance(group, dict) else None
    return inner if isinstance(inner, dict) else {}
