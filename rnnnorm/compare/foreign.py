"""Data modules and models of somebody else's: what those of rnnnorm do by themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.nn.utils.rnn import PackedSequence

from rnnnorm.data import SequenceDataModule, Spec
from rnnnorm.data.checks import check_batch, check_splits
from rnnnorm.data.module import Examples
from rnnnorm.tasks import PopulationStatistics, SequenceTask

SPLITS = ("train", "val", "test")


def look_at(data: LightningDataModule) -> None:
    """Check all batches of a data module against its spec, once; a `SequenceDataModule` does so by itself.

    Raises:
        ValueError: data that the spec does not allow; it names split, batch, sequence and row. Without this, each run
            would fail, or seem to diverge.
    """
    spec = getattr(data, "spec", None)
    if isinstance(data, SequenceDataModule) or not isinstance(spec, Spec):
        return
    name = type(data).__name__
    for split in SPLITS:
        if not is_overridden(f"{split}_dataloader", data, LightningDataModule):
            continue
        loader: Any = getattr(data, f"{split}_dataloader")()
        dataset = getattr(loader, "dataset", None)
        if isinstance(dataset, Examples):
            check_splits({split: dataset.examples}, name, spec)
        else:
            _look_at_batches(loader, spec, f"the {split} split of {name}")


def evaluate_by_population(trainer: Trainer, model: LightningModule) -> None:
    """Population statistics before each validation, as `SequenceTask` has them, for a model that is none."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    if isinstance(model, SequenceTask) or any(isinstance(c, PopulationStatistics) for c in callbacks):
        return
    first = next((k for k, c in enumerate(callbacks) if isinstance(c, Checkpoint)), len(callbacks))
    callbacks.insert(first, PopulationStatistics())


def _look_at_batches(loader: Iterable[Any], spec: Spec, where: str) -> None:
    for k, batch in enumerate(loader):
        if isinstance(getattr(batch, "input", None), PackedSequence):
            check_batch(batch, spec, f"batch {k} of {where}")
