"""Changes to a network before its training that no constructor argument makes, and what it is worth before it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.utils import parametrize

from rnnnorm.data.base import Batch
from rnnnorm.data.module import SequenceDataModule
from rnnnorm.nn.stack import RecurrentStack
from rnnnorm.studies.data.plain_training import final, train
from rnnnorm.tasks import SequenceTask


@torch.no_grad()
def scale_weights(network: RecurrentStack, scale: float, direction_only: bool = False) -> None:
    """Multiply W_ih and W_hh of all layers and directions by a factor; biases, gains and W_hr stay.

    A reparametrized weight is multiplied, too, which multiplies the length g of weight normalization.

    Args:
        network: whose weights.
        scale: the factor, above 0.
        direction_only: under weight normalization multiply v alone, the parameter whose length has no meaning.

    Raises:
        ValueError: a factor that is not above 0, or `direction_only` for a weight without weight normalization.
    """
    if not scale > 0:
        raise ValueError(f"weights are scaled by a factor above 0, got {scale}")
    for suffix in network.all_suffixes():
        for name in ("weight_ih" + suffix, "weight_hh" + suffix):
            if not direction_only:
                network.assign(name, getattr(network, name).detach() * scale)
                continue
            if not parametrize.is_parametrized(network, name):
                raise ValueError(f"{name} has no direction of its own: norm {network.norm.name!r} leaves it alone")
            network.get_parameter(f"parametrizations.{name}.original1").mul_(scale)


@torch.no_grad()
def start_from_data(task: SequenceTask, batch: Batch) -> None:
    """Data-dependent initialization by a batch, for norms that ask for it, as Lightning's loop does it."""
    if task.recurrent.needs_data:
        task.recurrent.initialize_from_data(task._embedded(batch.input))


@torch.no_grad()
def blank_loss(task: SequenceTask, batch: Batch) -> float:
    """The mean loss of a batch where all logits are 0: what a network has that says nothing."""
    random = torch.get_rng_state()
    training = task.training
    # Evaluation mode would take stored statistics of batches that never were, but only the shape matters here.
    logits, _ = task.eval()(batch.input)
    task.train(training)
    torch.set_rng_state(random)
    return float(task.losses(torch.zeros_like(logits), batch.target).mean())


def bounded_training(
    task: SequenceTask, data: SequenceDataModule, config: Mapping[str, Any], max_steps: int | None = None
) -> dict[str, float]:
    """Train a network, and say what is left where training goes wrong.

    Args:
        task: is initialized from data, where its norm asks for that, and trained in place.
        data: to train with.
        config: `trainer`, as for `rnnnorm compare -c`.
        max_steps: stop after that many steps.

    Returns:
        `loss` at the end, at most `blank_loss`; `first_loss`; `blank_loss`, that of logits of 0; and whether it
        `diverged`, 0 or 1.
    """
    batch, trainer = next(iter(data.train_dataloader())), config.get("trainer", {})
    start_from_data(task, batch)
    blank = blank_loss(task, batch)
    epochs, clip = trainer.get("max_epochs", 1), trainer.get("gradient_clip_val")
    losses = train(task, data, epochs, clip, max_steps=max_steps)
    diverged = float(not math.isfinite(losses[-1]))
    return {"loss": min(final(losses), blank), "first_loss": losses[0], "blank_loss": blank, "diverged": diverged}
