"""The best checkpoint on the test split: in the three ways batch normalization evaluates, by length and by timestep."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from numpy.typing import NDArray

from rnnnorm.common.sequence_scores import SequenceScores
from rnnnorm.engine.control import Interrupt, OutOfTimeError, anywhere
from rnnnorm.norms import has_batch_statistics, recalibrate, statistics
from rnnnorm.norms.recorder import mergeable
from rnnnorm.norms.synchronized import unsynchronized
from rnnnorm.packing import row_sequences
from rnnnorm.tasks.population import reader
from rnnnorm.tasks.scores import Scores

MODES = ("running", "population", "batch")
NUM_BUCKETS = 6
ROWS, ROWS_OF_CUT = 4000, 1000
"""Training sequences that the population statistics of a final test are taken of, if there are as many.

From the test loss by all sequences, that by 1000 differed by 0.5 %, and that by 4000 by 0.1 % (`bn-timestep`, permuted
MNIST of 14 × 14 pixels, 8,000 training images, 150 steps; on names by 0.3 % and 0.1 %); 4000 images take half the time
of a pass over the 10,000 test images. So a run that counts has 4000, and one that was cut by the time limit has 1000.
"""

Array = NDArray[Any]
Values = dict[str, float]


class Collected(NamedTuple):
    """One pass over the test split.

    Args:
        score: (M,) contribution of each prediction to the metric.
        length: (M,) steps of its sequence.
        step: (M,) its timestep.
        sums: (U,) contributions by sequence; NaN where they cannot be told apart.
        counts: (U,) predictions by sequence.
    """

    score: Array
    length: Array
    step: Array
    sums: Array
    counts: Array


class Collector(Callback):
    """Scores of every test batch: the `Scores` that the test step returns, or else `model.scores(batch)`.

    Args:
        interrupt: whether the user wants to stop.
        show: told of the progress: batches done, of how many, and what is being done.
        deadline: when to give up, by `time.monotonic()`; None: never.
    """

    def __init__(
        self,
        interrupt: Interrupt,
        show: Callable[[int, float, str], None] = lambda *_: None,
        deadline: float | None = None,
    ) -> None:
        self.interrupt, self.show, self.deadline = interrupt, show, deadline
        self.doing = "test"
        self.passes: dict[str, Collected] = {}
        """Evaluation mode → what was collected of it, once `evaluate` is done."""
        self.unit = "sequence"
        self._parts: list[tuple[Array, ...]] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the pass before."""
        self._parts = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Score one batch, prediction by prediction; models without `scores` have no tables by length."""
        self.interrupt.check()
        if anywhere(trainer, self.deadline is not None and time.monotonic() > self.deadline):
            raise OutOfTimeError
        self.show(batch_idx + 1, sum(trainer.num_test_batches), self.doing)
        found = outputs.get("scores") if isinstance(outputs, Mapping) else None
        scores = getattr(pl_module, "scores", None)
        if not isinstance(found, Scores) and scores is not None:  # by a second forward pass
            with trainer.precision_plugin.forward_context():
                found = scores(batch)
        if found is not None:
            _, *parts = (part.detach().double().cpu().numpy() for part in found)
            self._parts.append((*parts, *_by_sequence(parts[0], batch)))
            self.unit = "chunk" if getattr(batch, "continues", False) else self.unit

    def collected(self) -> Collected | None:
        """Scores of every prediction and of every sequence, of all processes, one after the other."""
        found = [self._parts]
        if dist.is_available() and dist.is_initialized():
            found *= dist.get_world_size()
            dist.all_gather_object(found, self._parts)
        collected = [part for parts in found for part in parts]
        if not collected:
            return None
        return Collected(*(np.concatenate(parts) for parts in zip(*collected, strict=True)))

    def sequences(self, metric: str, test: Mapping[str, Values]) -> SequenceScores | None:
        """Scores by test sequence; None where the metric is no function of a mean over predictions.

        Args:
            metric: its name.
            test: mode → metric → value, as `evaluate` has returned it.
        """
        if not self.passes:
            return None
        sums = {mode: found.sums for mode, found in self.passes.items()}
        measured = {mode: values[metric] for mode, values in test.items() if metric in values}
        return SequenceScores.of(metric, self.unit, next(iter(self.passes.values())).counts, sums, measured)


def _by_sequence(score: Array, batch: Any) -> tuple[Array, Array]:
    """Sums and counts of predictions by sequence of a packed batch: (M,) with M sequences or rows → twice (B,)."""
    sizes = getattr(getattr(batch, "input", None), "batch_sizes", None)
    if sizes is not None and len(score) == int(sizes[0]):
        return score, np.ones(len(score))
    if sizes is not None and len(score) == int(sizes.sum()):
        sequence = row_sequences(sizes).numpy()
        return np.bincount(sequence, score), np.bincount(sequence).astype(np.float64)
    return np.full(1, math.nan), np.ones(1)


def evaluate(
    trainer: Trainer,
    model: LightningModule,
    data: LightningDataModule,
    collector: Collector,
    train_batches: int | None,
    rows: int = ROWS,
) -> tuple[dict[str, Values], dict[str, list[dict[str, Any]]]]:
    """Test a model in the three evaluation modes.

    Population statistics are consistent ones of training sequences, of up to `rows` drawn ones and the longest; only
    the recurrent network is run for them. Without batch statistics there is only one way to evaluate, and its result
    stands for all three.

    Args:
        trainer: tests; `collector` is among its callbacks.
        model: its weights are left alone, its population statistics are re-estimated.
        data: training and test batches.
        collector: gathers single predictions.
        train_batches: take the first so many training batches instead, as the training was limited to them; None: do
            not.
        rows: sequences for the population statistics.

    Returns:
        mode → metric → value, and "length" and "step" → buckets with a mean score per mode. Where the collector's
        deadline came before the end, there are just the modes that had been done, and no buckets.

    Raises:
        InterruptedRunError: the user has asked to stop.
    """
    modes = MODES if has_batch_statistics(model) else MODES[:1]
    values: dict[str, Values] = {}
    collected = collector.passes = {}
    for mode in modes:
        if mode == "population":
            collector.show(0, math.inf, "population statistics")
            _recalibrate(trainer, model, data, collector.interrupt, train_batches, rows)
        collector.doing = f"test, {mode}" if len(modes) > 1 else "test"
        with statistics(model, mode):
            try:
                (logged,) = trainer.test(model, datamodule=data, verbose=False) or [{}]
            except OutOfTimeError:
                return values, _buckets({})
        values[mode] = {key.removeprefix("test/"): float(value) for key, value in logged.items()}
        found = collector.collected()
        if found is not None:
            collected[mode] = found
    for mode in MODES:
        values.setdefault(mode, dict(values["running"]))
    return values, _buckets(collected)


def evaluated_rows(model: LightningModule, data: LightningDataModule) -> int:
    """Packed rows that `evaluate` runs over, about; 0 for data that do not tell their `lengths`."""
    lengths = getattr(data, "lengths", None)
    if lengths is None:
        return 0
    test, train = sum(lengths("test")), lengths("train")
    if not has_batch_statistics(model):
        return int(test)
    return int(len(MODES) * test + sum(train) * min(1.0, ROWS / len(train)))


def _recalibrate(
    trainer: Trainer,
    model: LightningModule,
    data: LightningDataModule,
    interrupt: Interrupt,
    limit: int | None,
    rows: int,
) -> None:
    device = trainer.strategy.root_device
    model.to(device)
    sample = getattr(data, "training_sample", None) if mergeable(model) else None
    found = data.train_dataloader() if sample is None or limit is not None else sample(rows)

    def batches() -> Iterator[Any]:
        for batch in islice(found, limit):
            interrupt.check()
            yield model.transfer_batch_to_device(batch, device, 0)

    # Sampled sequences are the same ones in all processes, which need not meet then.
    alone = unsynchronized(model) if isinstance(found, list) else nullcontext()
    with trainer.precision_plugin.forward_context(), alone:
        recalibrate(model, batches(), forward=reader(model), rows=rows)


def _buckets(collected: Mapping[str, Collected]) -> dict[str, list[dict[str, Any]]]:
    """Mean scores by length and by step; the edges depend on the test data alone, so all runs share them."""
    if not collected:
        return {"length": [], "step": []}
    table: dict[str, list[dict[str, Any]]] = {}
    for name in ("length", "step"):
        places: Array = getattr(collected["running"], name)
        table[name] = []
        for low, high in edges(places):
            inside = (places >= low) & (places <= high)
            means = {mode: float(found.score[inside].mean()) for mode, found in collected.items()}
            means = {mode: means.get(mode, means["running"]) for mode in MODES}
            table[name].append({"low": low, "high": high, "count": int(inside.sum()), **means})
    return table


def edges(places: Array, number: int = NUM_BUCKETS) -> list[tuple[int, int]]:
    """Ranges (low, high), both inside, that cut whole numbers into at most `number` parts of about equal counts.

    Values that are no more than the parts are a bucket each: fixed lengths give a single one.
    """
    places = np.sort(places.astype(np.int64))
    different: list[int] = np.unique(places).tolist()
    if len(different) <= number:
        return [(value, value) for value in different]
    cuts = np.unique(places[[len(places) * k // number for k in range(1, number)]])  # first value of each part
    starts = [int(places[0]), *(int(cut) for cut in cuts if cut > places[0])]
    buckets = []
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        inside = places[(places >= start) & (places < following)] if following is not None else places[places >= start]
        buckets.append((int(inside[0]), int(inside[-1])))
    return buckets


def stored_statistics(model: LightningModule) -> int:
    """How many numbers batch normalization keeps beside the parameters: running means and variances."""
    kept = ("running_mean", "running_var", "running_still")
    return sum(buffer.numel() for name, buffer in model.named_buffers() if name.rpartition(".")[2] in kept)


def loader_of(data: LightningDataModule, split: str) -> Any:
    """The loader of a split; [] if the data module has none."""
    name = f"{split}_dataloader"
    return getattr(data, name)() if is_overridden(name, data, LightningDataModule) else []


def length_summary(data: LightningDataModule, split: str) -> dict[str, int]:
    """Minimum, median, 95th percentile, maximum and number of the sequence lengths of a split; {} if it has none."""
    loader = loader_of(data, split)
    lengths = getattr(getattr(loader, "plan", None), "lengths", None)
    if lengths is not None:  # making all batches of 784 steps takes a minute
        return summary_of(lengths)
    return summary_of([int(length) for batch in loader for length in batch_lengths(batch.input.batch_sizes)])


def batch_lengths(batch_sizes: torch.Tensor) -> torch.Tensor:
    """The lengths of a packed batch, longest first: (T,) active rows per step → (B,)."""
    return (batch_sizes[None, :] > torch.arange(int(batch_sizes[0]))[:, None]).sum(1)


def summary_of(lengths: Sequence[int]) -> dict[str, int]:
    """Minimum, median, 95th percentile, maximum, and how many; {} for none."""
    if not len(lengths):
        return {}
    low, median, p95, high = np.percentile(lengths, [0, 50, 95, 100], method="nearest").tolist()
    return {"min": low, "median": median, "p95": p95, "max": high, "count": len(lengths)}
