"""Context in which a model can be used in the middle of its training without any trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import lightning as L
import torch
from torchmetrics import Metric

from rnnnorm.norms import step_statistics
from rnnnorm.tasks.carry import CarriedStates

POPULATION = ("population_mean", "population_var", "population_rows")


@contextmanager
def undisturbed(model: L.LightningModule) -> Iterator[None]:
    """Context that restores modes, statistics, metrics and random streams, whatever happens inside.

    Inside, nothing has a graph, and `model.log` and `model.log_dict` do nothing.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers() if not name.endswith(POPULATION)}
    population = [(stats, {name: getattr(stats, name) for name in POPULATION}) for stats in step_statistics(model)]
    metrics = [(m, _metric_state(m)) for m in model.modules() if isinstance(m, Metric)]
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices), torch.no_grad(), _silent(model):
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training
            for stats, known in population:
                for name, buffer in known.items():
                    setattr(stats, name, buffer)
            for name, buffer in model.named_buffers():
                if name in buffers and not torch.equal(buffer, buffers[name]):
                    buffer.copy_(buffers[name])
            for metric, state in metrics:
                vars(metric).update(state)


def _metric_state(metric: Metric) -> dict[str, Any]:
    """What an update of a metric changes."""
    return {name: deepcopy(vars(metric)[name]) for name in (*metric._defaults, "_update_count", "_computed")}


@contextmanager
def _silent(model: L.LightningModule) -> Iterator[None]:
    def nothing(*_: Any, **__: Any) -> None:
        """In place of `log`, which Lightning allows in its own hooks only."""

    vars(model).update(log=nothing, log_dict=nothing)
    try:
        yield
    finally:
        for name in ("log", "log_dict"):
            vars(model).pop(name, None)


@contextmanager
def fresh_stream(model: L.LightningModule) -> Iterator[None]:
    """For a `SequenceTask`, start from initial states and put the carried ones back."""
    carried = vars(model).get("_carried")
    if not isinstance(carried, CarriedStates):
        yield
        return
    vars(model)["_carried"] = CarriedStates()
    try:
        yield
    finally:
        vars(model)["_carried"] = carried
