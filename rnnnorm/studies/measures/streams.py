"""Losses on streams: before learning from each sequence, and of sequences that are read in pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from lightning import LightningDataModule

from rnnnorm.data.base import Batch
from rnnnorm.norms.batch_statistics import BatchNormalizer
from rnnnorm.studies.data.drifting import CLASSES, drifting, test_then_train
from rnnnorm.studies.data.plain_training import evaluate
from rnnnorm.studies.framework import Row, Trial, in_every_mode
from rnnnorm.studies.framework.settings import Settings
from rnnnorm.studies.measures.stepwise import BIT, mean_step_losses
from rnnnorm.tasks import Classification, SequenceTask

POINTS = 40
CLIP = 1.0
MODES = ("population", "running")


@torch.no_grad()
def refuses(task: SequenceTask, batch: Batch) -> bool:
    """Whether a network normalizes by statistics of batches and finds none in this one, anywhere.

    It would then train on the constants that its statistics begin with, as `bn-frozen` does. The network is left as it
    is.

    Args:
        task: a network.
        batch: what it would be trained on.
    """
    twin = deepcopy(task).train()
    stored = [module.stats for module in twin.modules() if isinstance(module, BatchNormalizer)]
    before = [int(stats.num_rows.sum()) for stats in stored]
    twin(batch.input)
    return bool(stored) and all(int(s.num_rows.sum()) == was for s, was in zip(stored, before, strict=True))


def with_horizon(norm: str, rows: int, batches: int, share: float) -> str:
    """A norm with carried statistics whose averages or warm-up last for a share of a stream; others as they are.

    The published forgetting factor of online normalization, 8191/8192, averages over more rows than a short stream has,
    and the published warm-up of power normalization, 10,000 batches, outlasts it.

    Args:
        norm: its name; what it says about its horizon is kept.
        rows: timesteps of the whole stream.
        batches: of the whole stream.
        share: of the rows for the horizon 1/(1 - α), of the batches for the warm-up.
    """
    if norm.split(":")[0] == "online" and "alpha_forward=" not in norm:
        return f"{norm}:alpha_forward={1 - 1 / max(share * rows, 2.0):.6f}"
    if norm.split(":")[0] == "power" and "warmup=" not in norm:
        return f"{norm}:warmup={math.ceil(share * batches)}"
    return norm


def learning(trial: Trial, settings: Settings, model: Mapping[str, Any]) -> Iterator[Row]:
    """What `prequential` measures on a drifting stream, or `inapplicable`, 1, where the norm is refused.

    Args:
        trial: `drift` and `batch` are conditions.
        settings: `examples`, `steps` and `horizon` are options.
        model: keys of the network, of which `hidden_size` and `learning_rate` are taken.
    """
    option, size = settings.option, int(trial.conditions["batch"])
    stream = drifting(int(option("examples")), int(option("steps")), str(trial.conditions["drift"]), trial.seed)
    keys = {key: model[key] for key in ("hidden_size", "learning_rate") if key in model}
    count, T = stream.rows.shape[:2]
    torch.manual_seed(trial.seed)
    norm = with_horizon(trial.norm, count * T, count // size, float(option("horizon")))
    task = Classification(stream.spec, norm=norm, **keys)
    if refuses(task, next(stream.batches(size))):
        yield {"quantity": "inapplicable", "value": 1.0}
        return
    for row in prequential(test_then_train(task, stream, size, CLIP), size, guess=math.log(CLASSES)):
        yield row
        if row["quantity"] == "loss":  # nothing that is predicted has been learned from
            yield {**row, "quantity": "val_loss"}


def prequential(losses: Sequence[float], size: int, guess: float) -> Iterator[Row]:
    """`diverged`, the mean `loss` of the second half, and `prequential` loss by the number `t` of sequences seen.

    Args:
        losses: of every batch before it was learned from, infinite from where training diverged.
        size: sequences per batch.
        guess: the loss of a stream that diverged.
    """
    late = losses[len(losses) // 2 :]
    finite = math.isfinite(late[-1])
    yield {"quantity": "diverged", "value": float(not finite)}
    yield {"quantity": "loss", "value": sum(late) / len(late) if finite else guess}
    block = max(len(losses) // POINTS, 1)
    for start in range(0, len(losses) - block + 1, block):
        mean = sum(losses[start : start + block]) / block
        if math.isfinite(mean):
            yield {"quantity": "prequential", "t": (start + block) * size, "value": mean}


def reading(
    task: SequenceTask, batches: Sequence[Batch], data: LightningDataModule, sizes: Sequence[int]
) -> Iterator[Row]:
    """`loss` in nats by `mode` and `chunk`, the number of steps that are read at a time; the last is the whole.

    And the `val_loss`, by population statistics.

    Args:
        task: a trained network.
        batches: sequences of T steps, with a target per row.
        data: what it was trained on.
        sizes: of pieces; those of T steps or more are left out.
    """
    T = len(batches[0].input.batch_sizes)
    for mode in in_every_mode(task, data.train_dataloader(), MODES):
        if mode == "population":
            yield {"quantity": "val_loss", "value": evaluate(task, data.val_dataloader())[0]}
        for size in (*(size for size in sizes if size < T), T):
            mean = float(mean_step_losses(task, batches, size).double().mean())
            yield {"quantity": "loss", "mode": mode, "chunk": size, "value": mean * BIT}
