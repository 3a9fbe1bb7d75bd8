"""Loss per timestep, and sequences longer than a data set has: for studies of tasks with an answer per step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor

from rnnnorm.data.base import Batch
from rnnnorm.data.collate import PER_ROW, Example, collate
from rnnnorm.data.synthetic import Generated
from rnnnorm.studies.data.plain_training import task_of
from rnnnorm.studies.framework import Row, in_every_mode
from rnnnorm.tasks import SequenceTask
from rnnnorm.tasks.carry import State

BIT = math.log(2)
BINS = 4
"""Places per T_max at which losses along time are kept."""


def require_answers_per_step(data: Any, study: str) -> None:
    """Refuse data with one target per sequence: a loss at every timestep needs one per step.

    Args:
        data: a data module, or the `data` part of a configuration.
        study: who needs it.

    Raises:
        ValueError: the task of the data is another.
    """
    task = task_of(str(data.get("class_path", ""))) if isinstance(data, Mapping) else getattr(data, "task", None)
    if task is not None and task not in PER_ROW:
        raise ValueError(f"{study} needs data with a target at every step ({', '.join(sorted(PER_ROW))}), got {task}")


def dense_batches(examples: Sequence[Example], data: LightningDataModule, size: int) -> Iterator[Batch]:
    """Sequences of one length in batches of `size`; a last one that is not full is left out, but never all of them."""
    size = min(size, len(examples))
    for start in range(0, len(examples) - size + 1, size):
        yield collate(examples[start : start + size], data.task)  # type: ignore[attr-defined]


def long_examples(data: LightningDataModule, options: Mapping[str, Any], steps: int, count: int) -> list[Example]:
    """Test sequences of exactly `steps` steps.

    Generated data are generated at that length. Others are joined: the test sequences end to end, in the order of the
    data, as Cooijmans et al. (2017) made one sequence of the whole test set.

    Args:
        data: with a target per step.
        options: what it was made with.
        steps: length.
        count: at most how many.

    Raises:
        ValueError: a target per sequence, or a test split too short for two such sequences.
    """
    require_answers_per_step(data, "a longer test set")
    if isinstance(data, Generated):
        longer = {"length_distribution": "fixed", "max_length": steps, "num_train": 1, "num_val": 1, "num_test": count}
        return type(data)(**{**options, **longer}).examples("test")
    examples = data.examples("test")  # type: ignore[attr-defined]
    rows, targets = (torch.cat([example[part] for example in examples]) for part in (0, 1))
    number = min(count, len(rows) // steps)
    if number < 2:
        raise ValueError(
            f"the test split has {len(rows)} steps in all: two sequences of {steps} cannot be made of them"
        )
    return list(
        zip(torch.split(rows[: number * steps], steps), torch.split(targets[: number * steps], steps), strict=True)
    )


@torch.no_grad()
def step_losses(model: SequenceTask, batch: Batch, chunk: int | None = None) -> Tensor:
    """Loss of each prediction of a batch of equally long sequences, (T, B), in bits.

    Args:
        model: in the mode in which it shall predict.
        batch: sequences of one length.
        chunk: read that many steps at a time, the state being carried from one call to the next; None: all at once.

    Raises:
        ValueError: the sequences have different lengths.
    """
    sizes = batch.input.batch_sizes
    if int(sizes[0]) != int(sizes[-1]):
        raise ValueError(f"expected sequences of one length, got between {int(sizes[-1])} and {int(sizes[0])} per step")
    B, steps = int(sizes[0]), len(sizes)
    state: State | None = None
    losses = []
    for start in range(0, steps, chunk or steps):
        stop = min(start + (chunk or steps), steps)
        rows = slice(start * B, stop * B)
        part = torch.nn.utils.rnn.PackedSequence(batch.input.data[rows], sizes[start:stop])
        logits, state = model(part, state)
        losses.append(model.losses(logits, batch.target[rows]))
    return torch.cat(losses).view(steps, B) / BIT


def mean_step_losses(model: SequenceTask, batches: Iterable[Batch], chunk: int | None = None) -> Tensor:
    """Mean loss per step over batches of equally long sequences, (T,), in bits.

    Args:
        model: in the mode in which it shall predict.
        batches: all of one length.
        chunk: see `step_losses`.
    """
    return torch.cat([step_losses(model, batch, chunk) for batch in batches], 1).mean(1)


def beyond_training(
    model: SequenceTask,
    data: LightningDataModule,
    options: Mapping[str, Any],
    calibration: Iterable[Batch],
    times: Sequence[int],
    count: int,
    size: int,
) -> Iterator[Row]:
    """The rows of `over_time`, by `mode`, on test sequences of the last of `times` T steps.

    Args:
        model: a trained network.
        data: what it was trained on, of at most T steps.
        options: what they were made with.
        calibration: batches from which population statistics are taken.
        times: multiples of T, ascending.
        count: at most so many sequences.
        size: sequences per batch.
    """
    T = int(data.spec.max_length)  # type: ignore[attr-defined]
    batches = list(dense_batches(long_examples(data, options, times[-1] * T, count), data, size))
    for mode in in_every_mode(model, calibration):
        yield from ({**row, "mode": mode} for row in over_time(mean_step_losses(model, batches), T, times))


def over_time(losses: Tensor, T: int, times: Sequence[int]) -> Iterator[Row]:
    """`loss` of the first `times` T steps, `settled` loss, its `rise` to the end, `loss_at` step `t` (`reach` = t/T).

    What is predicted at a step does not depend on later ones: the first steps are shorter test sequences. The settled
    loss is that from T/2 to T, past the transient, the rise that of the last T steps minus that.

    Args:
        losses: of each step, (max(times) T,).
        T: the longest sequence of training.
        times: multiples of it, ascending.
    """
    for k in times:
        yield {"quantity": "loss", "times": k, "value": float(losses[: k * T].mean())}
    settled = losses[T // 2 : T].mean()
    yield {"quantity": "settled", "value": float(settled)}
    yield {"quantity": "rise", "value": float(losses[-T:].mean() - settled)}
    for number, part in enumerate(losses.tensor_split(BINS * times[-1])):
        place = {"t": round(number * T / BINS), "reach": (number + 0.5) / BINS}
        yield {"quantity": "loss_at", **place, "value": float(part.mean())}
