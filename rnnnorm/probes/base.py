"""Base class of all probes: when to measure, where to write, what to keep."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from torch import Tensor

from rnnnorm.common.event_budget import EventBudget
from rnnnorm.common.ranges import Checked, Range, at_least
from rnnnorm.probes.heat_maps import HeatMap
from rnnnorm.probes.recording import Observation, networks, record
from rnnnorm.probes.table import Table

INTERVAL = 100
"""Training batches from one measurement to the next, in a run that is neither short nor very long."""
COLUMNS = 12
"""Measurements that even a short run has."""


@dataclass
class Measurement:
    """Numbers that a probe found at one training step.

    Args:
        scalars: single numbers, by the end of their tag.
        rows: quantities against t, (T,), by the name of their series.
        histograms: values whose distribution matters, by the end of their tag.
    """

    scalars: dict[str, float] = field(default_factory=dict)
    rows: dict[str, Tensor] = field(default_factory=dict)
    histograms: dict[str, Tensor] = field(default_factory=dict)


class Probe(Checked, L.Callback):
    """A callback that measures, from time to time, in an ordinary training step, and leaves the training as it is.

    As it is means: to the last bit. What must be looked at inside the recurrence is looked at in a repetition of the
    run, apart from it (`rnnnorm.probes.recording.observe`).

    It works in any Trainer with any LightningModule that contains `rnnnorm.LSTM`, `GRU` or `RNN`. Numbers go to every
    logger under `probe/<name>/…` (those that are finite); histograms and heat maps (t × training step) to
    TensorBoard. Histograms and heat maps come after 2, 3, 4, 6, 8, 12, 16, … measurements and at the end: one can watch
    them, and a long run has a few dozen. As the event files of a run approach 20 MB, less is written
    (`rnnnorm.common.event_budget`). The step on the axis is `trainer.global_step` before the training step: 0 is
    the network as it was initialized. Timesteps are counted from 0.

    Everything is part of the checkpoint: a resumed run goes on with its tables. In distributed training every process
    takes part, and rank zero measures its own batches and writes.

    Args:
        every: training batches from one measurement to the next. None: 100, or fewer in a run so short that it would
            have less than twelve measurements, or more in one that would have over 256.

    Raises:
        ValueError: `every` below 1; at the start of training, a model without a recurrent network.
    """

    name: ClassVar[str]
    ranges: ClassVar[Mapping[str, Range]] = {"every": at_least(1)}
    heat_maps: ClassVar[tuple[HeatMap, ...]] = ()

    def __init__(self, every: int | None = None) -> None:
        self.every = every
        self._expected = math.inf
        self.tables: dict[str, Table] = {}
        """By series, such as "gradient/l0/h"."""
        self._batches = self._due = self._measured = self._drawn = self._step = 0
        self._block = ExitStack()
        self._watched: Any = None
        self._watching = False
        self._budgets = EventBudget(), EventBudget()
        """For numbers, and for pictures."""

    @abstractmethod
    def measure(self, trainer: L.Trainer, pl_module: L.LightningModule, watched: Any) -> Measurement:
        """Look at what happened in a training step, which is over; `watched` is what `watch` gave."""

    def watch(self, pl_module: L.LightningModule) -> AbstractContextManager[Any]:
        """A block around the training step to be measured; by default a `record` of rows and active rows only."""
        return record(pl_module, states=False)

    def shows(self, heat_map: HeatMap, panels: Mapping[str, Table]) -> str:
        """A sentence on what the panels of a picture show, for below it."""
        return ""

    @property
    def interval(self) -> int:
        """Training batches from this measurement to the next."""
        if self.every is not None:
            return self.every
        if not math.isfinite(self._expected):  # then one twelfth of what there was, as long as that is less
            return max(1, min(INTERVAL, self._batches // COLUMNS))
        enough = max(INTERVAL, math.ceil(self._expected / Table().limit))
        return max(1, min(enough, int(self._expected) // COLUMNS))

    @property
    def table(self) -> NDArray[Any]:
        """The first series of the first heat map, (measurements, T), nan where there was no step t.

        `tables` has all series, at the end of training as at any time before.
        """
        return self._first().array()

    @property
    def steps(self) -> list[int]:
        """Training step of each row of `table`."""
        return self._first().steps

    def _first(self) -> Table:
        shown = (table for heat_map in self.heat_maps for table in heat_map.panels(self.tables).values())
        return next(shown, Table())

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse models in which there is nothing to measure; begin anew where training does."""
        networks(pl_module)
        self._expected = expected_batches(trainer)
        if trainer.global_step == 0:
            self.tables = {}
            self._batches = self._due = self._measured = self._drawn = self._step = 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin to watch if it is time to."""
        self._stop_watching()
        due = self._batches >= self._due
        # A network that starts from data is about to be initialized by a copy of itself: the next batch, then.
        if due and not any(network.needs_data for network in networks(pl_module).values()):
            self._due = self._batches + self.interval
            self._step = trainer.global_step
            self._watched = self._block.enter_context(self.watch(pl_module))
            self._watching = True
        self._batches += 1

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure what was watched."""
        if not self._watching:
            return
        watched = self._watched
        self._stop_watching()
        if isinstance(watched, Observation):
            watched.finish()
        if trainer.is_global_zero:
            self._take(trainer, pl_module, watched)

    @torch.no_grad()
    def _take(self, trainer: L.Trainer, pl_module: L.LightningModule, watched: Any) -> None:
        found = self.measure(trainer, pl_module, watched)
        for name, row in found.rows.items():
            self.tables.setdefault(name, Table()).add(self._step, row)
        self._measured += 1
        self._write(trainer, found)
        if is_drawn(self._measured):
            self._draw(trainer, found)

    def _write(self, trainer: L.Trainer, found: Measurement) -> None:
        # TensorBoard draws nothing for nan, other loggers refuse it.
        scalars = {f"probe/{self.name}/{tag}": value for tag, value in found.scalars.items() if math.isfinite(value)}
        for logger in trainer.loggers if scalars else ():
            if not isinstance(logger, TensorBoardLogger) or self._budgets[0].grants(Path(logger.log_dir)):
                logger.log_metrics(scalars, step=self._step)

    def _draw(self, trainer: L.Trainer, found: Measurement) -> None:
        self._drawn = self._measured
        writers = [
            logger.experiment
            for logger in trainer.loggers
            if isinstance(logger, TensorBoardLogger) and self._budgets[1].grants(Path(logger.log_dir))
        ]
        for heat_map in self.heat_maps if writers else ():
            layers = heat_map.layers(self.tables)
            pictures = heat_map.draw(self.tables, {name: self.shows(heat_map, layers[name]) for name in layers})
            for layer, picture in pictures.items():
                tag = f"probe/{self.name}/{heat_map.series}" + (f"/{layer}" if layer else "")
                for writer in writers:
                    writer.add_image(tag, picture, self._step, dataformats="HWC")
        for writer in writers:
            for tag, values in found.histograms.items():
                finite = values[torch.isfinite(values)]
                if len(finite):
                    writer.add_histogram(f"probe/{self.name}/{tag}", finite.float().cpu(), self._step)
            writer.flush()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the last heat maps."""
        self._stop_watching()
        if trainer.is_global_zero and self._measured > self._drawn:
            self._draw(trainer, Measurement())

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop watching a step that did not end, such as one that a hook skipped."""
        self._stop_watching()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Put everything back."""
        self._stop_watching()

    def _stop_watching(self) -> None:
        self._watched, self._watching = None, False
        self._block.close()

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        counts = {name: getattr(self, name) for name in ("_batches", "_due", "_measured", "_drawn", "_step")}
        return {"counts": counts, "tables": {name: table.state_dict() for name, table in self.tables.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what the checkpoint kept."""
        vars(self).update(state_dict["counts"])
        self.tables = {}
        for name, state in state_dict["tables"].items():
            self.tables[name] = Table()
            self.tables[name].load_state_dict(state)


def expected_batches(trainer: L.Trainer) -> float:
    """Training batches of the whole run, as far as the trainer's settings say; inf if they do not."""
    if isinstance(trainer.num_training_batches, float) or trainer.max_epochs == -1:  # both are infinite
        most = math.inf
    else:
        most = float(trainer.num_training_batches) * (trainer.max_epochs or 1000)
    if trainer.max_steps and trainer.max_steps > 0:
        most = min(most, float(trainer.max_steps * trainer.accumulate_grad_batches))
    return most


def is_drawn(measurements: int) -> bool:
    """Whether pictures come after so many measurements: 2, 3, 4, 6, 8, 12, 16, …."""
    odd = measurements // (measurements & -measurements)
    return measurements > 1 and odd in (1, 3)


def finite_mean(row: Tensor) -> float:
    """Mean of the finite entries; nan if there are none."""
    found = row[torch.isfinite(row)]
    return float(found.double().mean()) if len(found) else math.nan
