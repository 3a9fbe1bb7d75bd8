"""Gap between training and evaluation: losses of the same batches under three kinds of statistics."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from rnnnorm.common.ranges import Range, at_least
from rnnnorm.norms import has_batch_statistics, recalibrate, statistics
from rnnnorm.norms.synchronized import unsynchronized
from rnnnorm.probes.base import Measurement, Probe, finite_mean
from rnnnorm.probes.colour_scale import number
from rnnnorm.probes.heat_maps import HeatMap
from rnnnorm.probes.table import Table
from rnnnorm.probes.undisturbed import fresh_stream, undisturbed

BUCKETS = 4


class Losses(NamedTuple):
    """Losses of a few batches, one entry per prediction; of a foreign model one per batch, without places.

    Args:
        loss: (M,).
        length: (M,), steps of the sequence; None where that is not known.
        step: (M,), timestep of the prediction; None where that is not known.
    """

    loss: Tensor
    length: Tensor | None = None
    step: Tensor | None = None


def loss_of(output: Any) -> Tensor | None:
    """The loss that a `validation_step` returned, as Lightning understands it; None if there is none."""
    loss = output.get("loss") if isinstance(output, dict) else output
    return loss.detach() if isinstance(loss, Tensor) and loss.numel() == 1 else None


def score(model: L.LightningModule, batches: Sequence[Any]) -> Losses | None:
    """The losses of batches in the mode the model is in; None for a model that returns none."""
    scores = getattr(model, "scores", None)
    if callable(scores):
        with fresh_stream(model):
            parts = [scores(batch) for batch in batches]
        loss, length, step = (torch.cat([getattr(p, n) for p in parts]).cpu() for n in ("loss", "length", "step"))
        return Losses(loss.double(), length, step)
    found = [loss_of(model.validation_step(batch, k)) for k, batch in enumerate(batches)]
    losses = [loss.double().cpu().reshape(()) for loss in found if loss is not None]
    return Losses(torch.stack(losses)) if losses and len(losses) == len(batches) else None


def by_step(values: Tensor, step: Tensor) -> Tensor:
    """Mean of the values at each timestep, (T,) float64; nan where there is none."""
    T = int(step.max()) + 1
    total = torch.zeros(T, dtype=torch.float64).index_add_(0, step, values)
    return total / torch.bincount(step, minlength=T)  # 0/0 is nan


def by_length(values: Tensor, length: Tensor) -> list[float]:
    """Mean of the values in four buckets of about equally many predictions, from short to long sequences.

    Fixed lengths, and lengths so frequent that they fill several buckets, give fewer.
    """
    ordered = length.sort().values
    starts = torch.unique(torch.stack([ordered[len(ordered) * k // BUCKETS] for k in range(BUCKETS)]))
    bucket = torch.bucketize(length, starts, right=True)
    return [float(values[bucket == k].mean()) for k in range(1, len(starts) + 1)]


class EvaluationGap(Probe):
    """The loss of the same validation batches by running, by population, and by their own statistics.

        gap/running    = loss(running averages)      - loss(the batch's own moments, as in training)
        gap/population = loss(population statistics) - loss(the batch's own moments, as in training)

    Measured when validation ends, on its first `batches` batches, at least `every` training batches after the time
    before. Dropout is off in all of them, so that nothing but the statistics differs. The population statistics are
    those of `rnnnorm.recalibrate` on the last `batches` training batches: few, so that this probe is cheap; the ones
    that `rnnnorm compare` reports see more of the training set. A stream is read from its initial state. The random
    streams, all statistics, modes and metrics are as before.

    Models with `scores(batch)` (`rnnnorm.tasks.SequenceTask`) are measured prediction by prediction, others by the loss
    that `validation_step` returns, averaged over batches, where `self.log` is silent; a model whose `validation_step`
    returns no loss is not measured and a warning says so once. A model without statistics has one loss and no gap.

    Scalars: `gap/running` and `gap/population`. Series, with `scores`: `gap/running` and `gap/population` at each
    timestep; `gap_by_length/running` and `gap_by_length/population` from the shortest to the longest quarter of all
    predictions.

    Args:
        every: training batches from one measurement to the next, None as in `Probe`; there is none without a
            validation.
        batches: how many validation batches, and training batches to recalibrate on.

    Source: Cooijmans et al., "Recurrent Batch Normalization", ICLR 2017, report population statistics only.
    """

    name: ClassVar[str] = "evaluation_gap"
    ranges: ClassVar[Mapping[str, Range]] = {"batches": at_least(1)}
    heat_maps: ClassVar[tuple[HeatMap, ...]] = (
        HeatMap(
            "gap",
            "loss minus that by batch statistics (nats)",
            "signed",
            "Red: what is stored loses against the batch's moments; blue: gains.",
            by_layer=False,
            names={"running": "running averages", "population": "population statistics"},
        ),
    )

    def __init__(self, every: int | None = None, batches: int = 2) -> None:
        super().__init__(every)
        self.batches = batches
        self._train: deque[Any] = deque(maxlen=batches)
        self._validation: list[Any] = []
        self._warned = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch for a while."""
        self._train.append(batch)
        self._batches += 1

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the batches of the validation before."""
        self._validation = []

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first batches of the first loader."""
        if trainer.state.fn == "fit" and not dataloader_idx and len(self._validation) < self.batches:
            self._validation.append(batch)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure, if it is time to."""
        batches = list(self._train), self._validation
        self._validation = []
        if trainer.sanity_checking or not all(batches) or self._batches < self._due:
            return
        self._due = self._batches + self.interval
        self._step = trainer.global_step
        if trainer.is_global_zero:
            self._take(trainer, pl_module, batches)

    def measure(self, trainer: L.Trainer, pl_module: L.LightningModule, watched: Any) -> Measurement:
        """Score the same batches in three ways."""
        train, validation = watched
        found: dict[str, Losses] = {}
        several = has_batch_statistics(pl_module)
        # On rank zero alone: the other processes wait for nobody.
        with undisturbed(pl_module), unsynchronized(pl_module), trainer.precision_plugin.forward_context():
            pl_module.eval()
            with statistics(pl_module, "running"):  # whatever a callback has chosen for this validation
                running = score(pl_module, validation)
            if running is None:
                self._warn(pl_module)
                return Measurement()
            found["running"] = found["population"] = found["batch"] = running
            if several:
                recalibrate(pl_module, [train], forward=lambda batches: score(pl_module, batches))
                for source in ("population", "batch"):
                    with statistics(pl_module, source):
                        again = score(pl_module, validation)
                    found[source] = again if again is not None else running
        return _compare(found)

    def shows(self, heat_map: HeatMap, panels: Mapping[str, Table]) -> str:
        """The mean gaps of the newest column."""
        gaps = {name: finite_mean(torch.from_numpy(table.array()[-1])) for name, table in panels.items()}
        if not any(gaps.values()):
            return "Here no statistics are stored, or they agree with the batch's: no gap."
        words = ", ".join(f"{name} {number(gap)}" for name, gap in gaps.items())
        return f"Step {next(iter(panels.values())).steps[-1]:,}, mean: {words}."

    def _warn(self, pl_module: L.LightningModule) -> None:
        if not self._warned:
            rank_zero_warn(
                f"EvaluationGap measures nothing: {type(pl_module).__name__} has no scores(batch), "
                "and its validation_step returns no loss"
            )
        self._warned = True


def _compare(found: dict[str, Losses]) -> Measurement:
    measurement, batch = Measurement(), found["batch"]
    for source in ("running", "population"):
        gap = found[source].loss - batch.loss
        measurement.scalars[f"gap/{source}"] = float(gap.mean())
        if batch.length is not None and batch.step is not None:
            measurement.rows[f"gap_by_length/{source}"] = torch.tensor(by_length(gap, batch.length))
            measurement.rows[f"gap/{source}"] = by_step(gap, batch.step)
    return measurement
