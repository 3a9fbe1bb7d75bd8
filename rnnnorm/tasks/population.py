"""Population statistics before each evaluation, so that curves show the network and not the lag of its averages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from typing import Any, ClassVar

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn

from rnnnorm.common.ranges import Checked, Range, at_least
from rnnnorm.norms import evaluates_by, has_batch_statistics, recalibrate, statistics, step_statistics
from rnnnorm.norms.recorder import mergeable
from rnnnorm.norms.synchronized import unsynchronized


class PopulationStatistics(Checked, L.Callback):
    """Evaluation of batch normalization by consistent population statistics, estimated anew before each validation.

    Before a validation or test begins, `rnnnorm.recalibrate` runs the recurrent network once over some training
    sequences; until it ends, stored statistics are those of the population. So `val/…` and `test/…` are by them.
    Nothing happens for models without stored statistics, for normalizers whose training itself reads running averages
    (`rnnnorm.norms.evaluates_by`), and where the caller has chosen by `rnnnorm.statistics`. The next training step
    makes the estimates void and they are dropped; a checkpoint written when a validation ends holds them.

    The sequences are those of `datamodule.training_sample(rows)`, the same ones each time and in every process; without
    that method, or without a data module, the last training batches of the epoch. Where there are none either, in a
    test by a fresh trainer perhaps, those statistics are used that a checkpoint or the caller has brought. Random
    streams are left as they were. The model is run by its method `encode(batch)`, or else by `forward(batch)`.

    With a callback that averages weights it is the averaged ones that are evaluated, if it stands before this one among
    the trainer's callbacks, as it does by default.

    `SequenceTask` has this callback by default. To change `rows`, give the trainer one of your own.

    Args:
        rows: training sequences; None: all.

    Raises:
        ValueError: fewer than two rows.
    """

    ranges: ClassVar[Mapping[str, Range]] = {"rows": at_least(2, why="since one sequence has no variance")}

    def __init__(self, rows: int | None = 500) -> None:
        self.rows = rows
        self._chosen = ExitStack()
        self._estimated = False
        self._sample: tuple[Any, list[Any]] = (None, [])
        """A data module, and what was sampled from it."""
        self._recent: list[Any] = []
        self._learning: Any = None
        """The model that the recent batches have trained."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to keep batches anew: none is to count twice."""
        self._recent, self._learning = [], pl_module

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Drop what belonged to other weights; keep the batch where there is no data module to ask."""
        if self._estimated:
            for stats in step_statistics(pl_module):
                stats.forget_population()
            self._estimated = False
        if not hasattr(getattr(trainer, "datamodule", None), "training_sample") and self._applies(pl_module):
            self._keep(batch)

    def _keep(self, batch: Any) -> None:
        """Keep the last batches that have `rows` sequences together."""
        self._recent.append(batch)
        wanted = 1000 if self.rows is None else self.rows
        while sum(map(_sequences, self._recent[1:])) >= wanted:
            self._recent.pop(0)

    @staticmethod
    def _applies(model: L.LightningModule) -> bool:
        return has_batch_statistics(model) and evaluates_by(model) == "population"

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Estimate, and evaluate by the estimates."""
        self._begin(trainer, pl_module)

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Estimate, and evaluate by the estimates."""
        self._begin(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Choose nothing any more."""
        self._chosen.close()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Choose nothing any more."""
        self._chosen.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Choose nothing any more."""
        self._chosen.close()

    def state_dict(self) -> dict[str, Any]:
        """Whether the population statistics in the checkpoint are this callback's, to be dropped in training."""
        return {"estimated": self._estimated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what the checkpoint kept."""
        self._estimated = state_dict["estimated"]

    def _begin(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        found = step_statistics(model)
        if trainer.sanity_checking or not self._applies(model) or any(s.source is not None for s in found):
            return
        batches = self._batches(trainer, model)
        if batches:
            moved = [model.transfer_batch_to_device(batch, model.device, 0) for batch in batches]
            # A sample is the same in all processes, which need not meet then; recent batches are each process's own.
            alone = unsynchronized(model) if batches is self._sample[1] else nullcontext()
            with trainer.precision_plugin.forward_context(), alone:
                recalibrate(model, moved, forward=reader(model), rows=None)
            self._estimated = True
        for s in found:
            if s.population_mean is not None:  # a network that no batch has used has none
                self._chosen.enter_context(statistics(s, "population"))
        if all(s.population_mean is None for s in found):
            rank_zero_warn(
                "there are no training batches to take population statistics of, neither in a data module nor from "
                "this training: batch normalization is evaluated by its running averages"
            )

    def _batches(self, trainer: L.Trainer, model: L.LightningModule) -> list[Any]:
        """Training batches to estimate on; none if there are not two sequences."""
        data: Any = getattr(trainer, "datamodule", None)
        if hasattr(data, "training_sample"):
            if self._sample[0] is not data:
                self._sample = (data, self._sampled(data, model))
            batches = self._sample[1]
        else:
            batches = self._recent if self._learning is model else []
        return batches if sum(map(_sequences, batches)) > 1 else []

    def _sampled(self, data: Any, model: L.LightningModule) -> list[Any]:
        """The sample; whole training batches for networks in which the batch matters to a sequence."""
        if mergeable(model):
            return list(data.training_sample(self.rows))
        found: list[Any] = []
        for batch in data.train_dataloader():
            found.append(batch)
            if self.rows is not None and sum(map(_sequences, found)) >= self.rows:
                break
        return found


def reader(model: L.LightningModule) -> Callable[[Any], Any]:
    """The method that runs a model's recurrent network over a batch: `encode(batch)`, or else `forward(batch)`.

    What it returns raises a ValueError that says so where `forward` takes something else than a batch.
    """
    encode: Callable[[Any], Any] | None = getattr(model, "encode", None)
    if encode is not None:
        return encode

    def forward(batch: Any) -> Any:
        try:
            return model(batch)
        except Exception as error:
            name = type(model).__name__
            raise ValueError(
                f"{name}.forward(batch) failed ({type(error).__name__}: {error}): batch normalization is evaluated by "
                f"statistics of training batches, so give {name} a method encode(batch) that runs its recurrent network"
            ) from error

    return forward


def _sequences(batch: Any) -> int:
    """Sequences of a batch of `rnnnorm.data`; of another batch it is not known, and two are taken for granted."""
    sizes = getattr(getattr(batch, "input", None), "batch_sizes", None)
    return 2 if sizes is None else int(sizes[0])
