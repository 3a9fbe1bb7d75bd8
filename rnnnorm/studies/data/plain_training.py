"""A bare training loop, for studies of thousands of short runs, or of networks that no preset's name describes.

It does what Lightning's does with the same keys, but keeps no checkpoints and does not validate: a step of a tiny
network costs a fraction of what all that costs. Learning curves reach TensorBoard as other measurements do (`curve`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from rnnnorm.compare.parameters import parameters_of
from rnnnorm.data.base import Batch
from rnnnorm.data.module import SequenceDataModule
from rnnnorm.norms import auxiliary_loss
from rnnnorm.norms.places import Norm
from rnnnorm.studies.framework.grid import drawn_anew
from rnnnorm.studies.framework.trial import Row
from rnnnorm.tasks import SequenceTask, for_spec
from rnnnorm.tasks.carry import CarriedStates


def build_data(config: Mapping[str, Any], seed: int) -> SequenceDataModule:
    """The data module of a configuration: generated data and the order of training batches depend on the seed.

    Args:
        config: `data`, as for `rnnnorm compare -c`, data modules around others among them.
        seed: of the trial.

    Raises:
        ValueError: no data module is named.
    """
    if "class_path" not in config.get("data", {}):
        raise ValueError("data.class_path is missing: it names the data module")
    cls = named_class(config["data"]["class_path"])
    keys = {
        key: build_data({"data": value}, seed) if isinstance(value, Mapping) and "class_path" in value else value
        for key, value in drawn_anew(config["data"], seed).get("init_args", {}).items()
    }
    if "shuffle_seed" in parameters_of(cls):
        keys.setdefault("shuffle_seed", seed)
    data: SequenceDataModule = cls(**keys)
    return data


def build_task(config: Mapping[str, Any], data: SequenceDataModule, norm: str | Norm, seed: int) -> SequenceTask:
    """The network of a configuration, in training mode.

    Args:
        config: `model`, as for `rnnnorm compare -c`; without a class, the one that fits the data is taken.
        data: whose shape it has.
        norm: a preset with overrides, or a `rnnnorm.Norm`.
        seed: all norms start from the same weights.
    """
    model = config.get("model", {})
    keys = dict(model.get("init_args", {}))
    if isinstance(norm, Norm):
        keys["cell_options"] = {**(keys.get("cell_options") or {}), "norm": norm}
    else:
        keys["norm"] = norm
    cls: type[SequenceTask] = named_class(model["class_path"]) if "class_path" in model else for_spec(data.spec)
    torch.manual_seed(seed)
    return cls(data.spec, **keys).train()


def named_class(path: str) -> Any:
    """The class that a `class_path` names; without a module, one of `rnnnorm.data`."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module or "rnnnorm.data"), name)


def task_of(class_path: str) -> str | None:
    """The kind of task of a data module; None where the class cannot be found, which is complained about later."""
    try:
        return getattr(named_class(class_path), "task", None)
    except (ImportError, AttributeError, ValueError):
        return None


def carrying(batches: Iterable[Batch], carry: bool | None) -> Iterator[Batch]:
    """Batches that each begin where the one before ended, or none of which does; None: as they are."""
    for number, batch in enumerate(batches):
        yield batch if carry is None else batch._replace(continues=carry and number > 0)


def train(
    task: SequenceTask,
    data: SequenceDataModule,
    epochs: int,
    clip: float | None = None,
    *,
    carry: bool | None = None,
    max_steps: int | None = None,
    patience: float = math.inf,
) -> list[float]:
    """Train and return the loss of every step, in nats or in what the task's loss is measured in.

    Args:
        task: is trained in place, by the optimizer that its keys name.
        data: in a new order in each epoch, where its order is not fixed.
        epochs: passes over the training split.
        clip: largest norm of the gradient; None: any.
        carry: whether a batch begins in the state in which the one before ended; None: as the data say.
        max_steps: stop after that many steps; None: at the end.
        patience: stop where the loss is above that multiple of the first one.

    Returns:
        the losses; the last one is infinite if training stopped because a loss was not finite, or too large.

    Raises:
        ValueError: `lr_decay` below 1, which belongs to Lightning's loop.
    """
    task.train()
    optimizer = task.configure_optimizers()
    if not isinstance(optimizer, Optimizer):
        raise ValueError("lr_decay must be 1: the learning rate of the plain loop is constant")
    carried, losses = CarriedStates(), list[float]()
    for batch in islice(_epochs(data, epochs, carry), max_steps):
        logits, state = task(batch.input, carried.before("train", batch))
        carried.after("train", state)
        loss = task.losses(logits, batch.target).mean()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]) or losses[-1] > patience * losses[0]:
            losses[-1] = math.inf
            break
        optimizer.zero_grad(set_to_none=True)
        loss = loss + auxiliary_loss(task)
        loss.backward()  # type: ignore[no-untyped-call]
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(task.parameters(), clip)
        optimizer.step()
    return losses


def fit(
    config: Mapping[str, Any], norm: str | Norm, seed: int, **how: Any
) -> tuple[SequenceTask, SequenceDataModule, list[float]]:
    """The network of a configuration, trained, its data, and the loss of every step: `build_data` to `train`.

    Args:
        config: `data`, `model` and `trainer`, as for `rnnnorm compare -c`.
        norm: a preset with overrides, or a `rnnnorm.Norm`.
        seed: of the trial.
        **how: keywords of `train`.
    """
    data, trainer = build_data(config, seed), config["trainer"]
    task = build_task(config, data, norm, seed)
    return task, data, train(task, data, trainer["max_epochs"], trainer.get("gradient_clip_val"), **how)


def _epochs(data: SequenceDataModule, epochs: int, carry: bool | None) -> Iterator[Batch]:
    loader: Any = data.train_dataloader()
    for epoch in range(epochs):
        loader.plan.set_epoch(epoch)
        yield from carrying(loader, carry)


@torch.no_grad()
def losses_by_step(task: SequenceTask, batches: Iterable[Batch], skip: int = 0) -> Tensor:
    """Mean loss of each timestep of a task with a target per row, (T,) float64.

    Args:
        task: is put into evaluation mode; by which statistics it normalizes, `rnnnorm.statistics` says.
        batches: dense, each of T steps; a last one that is shorter is left out.
        skip: first batches that are read but not counted.

    Raises:
        ValueError: ragged batches, or none.
    """
    task.eval()
    carried, total, count = CarriedStates(), torch.zeros(0, dtype=torch.float64), 0
    for number, batch in enumerate(batches):
        sizes = batch.input.batch_sizes
        T, B = len(sizes), int(sizes[0])
        if len(batch.target) != T * B:
            raise ValueError(f"losses by step need {T} x {B} targets, one per row, got {len(batch.target)}")
        logits, state = task(batch.input, carried.before("steps", batch))
        carried.after("steps", state)
        if number < skip or (count > 0 and len(total) != T):
            continue
        losses = task.losses(logits, batch.target).double().view(T, B).sum(1)
        total, count = losses if count == 0 else total + losses, count + B
    if count == 0:
        raise ValueError(f"losses by step need more than {skip} batches")
    return total / count


def curve(losses: Sequence[float], points: int = 25, **where: Any) -> Iterator[Row]:
    """The learning curve as measurements, `training_loss` by step `t`: means over at most `points` blocks of steps."""
    size = max(-(-len(losses) // points), 1)
    for start in range(0, len(losses), size):
        block = losses[start : start + size]
        yield {"quantity": "training_loss", **where, "t": start + len(block) - 1, "value": sum(block) / len(block)}


def final(losses: Sequence[float]) -> float:
    """The mean of the last tenth of the losses of a training, infinite if it ended early.

    Raises:
        ValueError: no losses.
    """
    if not losses:
        raise ValueError("there was no training step: the training split or max_epochs is empty")
    last = losses[-max(len(losses) // 10, 1) :]
    return sum(last) / len(last)


@torch.no_grad()
def evaluate(task: SequenceTask, batches: Iterable[Batch]) -> tuple[float, float]:
    """Mean loss and mean score (the metric per example, see `rnnnorm.tasks.Scores`) over batches.

    Args:
        task: is put into evaluation mode; by which statistics it normalizes, `rnnnorm.statistics` says.
        batches: each prediction counts once.

    Raises:
        ValueError: no batches.
    """
    task.eval()
    losses, scores = [], []
    for batch in batches:
        found = task.scores(batch)
        losses.append(found.loss.double())
        scores.append(found.score.double())
    if not losses:
        raise ValueError("there is nothing to evaluate on: no batches")
    return float(torch.cat(losses).mean()), float(torch.cat(scores).mean())
