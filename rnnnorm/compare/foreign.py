"""Data and models of somebody else: data looked at once before any run, evaluation as those of rnnnorm have it."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch.nn.utils.rnn import PackedSequence

from rnnnorm.data import SequenceDataModule, Spec
from rnnnorm.data.checks import check_batch, check_splits
from rnnnorm.data.collate import PER_ROW, Example
from rnnnorm.data.module import Examples
from rnnnorm.data.summary import ENOUGH, Split, empty, lines, sampled
from rnnnorm.engine.evaluation import loader_of
from rnnnorm.tasks import PopulationStatistics, SequenceTask

SPLITS = ("train", "val", "test")


def look_at(data: LightningDataModule) -> list[str]:
    """Check a data module against its spec, once, and summarize it.

    A `SequenceDataModule` checks itself. Of others all batches are looked at, or the first ones if there is no spec.

    Returns:
        a line per split and per warning; see `rnnnorm.data.summary.lines`.

    Raises:
        ValueError: data that the spec does not allow; it names split, batch, sequence and row. Without this, each run
            would fail, or seem to diverge. Or there is nothing to train on, or to test.
    """
    given = getattr(data, "spec", None)
    spec = given if isinstance(given, Spec) else None
    name, splits, batches = type(data).__name__, dict[str, Split](), None
    if not isinstance(data, SequenceDataModule):
        data.prepare_data()
        for stage in ("fit", "test"):
            data.setup(stage)
    for split in SPLITS:
        loader = loader_of(data, split)
        one = splits[split] = empty(spec, data)
        others = splits["train"].hashes if split == "test" else None
        examples = _examples(data, split, loader)
        if examples is None:
            count = _add_batches(one, loader, spec, f"the {split} split of {name}", others)
        else:
            if not isinstance(data, SequenceDataModule):
                check_splits({split: examples}, name, spec)
            one.lengths = [len(rows) for rows, _ in examples]
            one.add(sampled(examples), others)
            count = len(loader) if isinstance(loader, Sized) else 0
        if not count and split != "val":
            raise ValueError(f"{name} has no batches in its {split} split: some are needed")
        batches = count if split == "train" and not one.more else batches
    return lines(splits, spec, getattr(data, "class_names", None), batches)


def _examples(data: LightningDataModule, split: str, loader: Any) -> list[Example] | None:
    """The sequences of a split, if they are in memory."""
    if isinstance(data, SequenceDataModule):
        return data.splits.get(split, [])
    dataset = getattr(loader, "dataset", None)
    return list(dataset.examples) if isinstance(dataset, Examples) else None


def _add_batches(one: Split, loader: Iterable[Any], spec: Spec | None, where: str, others: set[int] | None) -> int:
    """Check the batches of a split and take them into account; how many there were."""
    count, numbers = 0, 0
    for count, batch in enumerate(loader, start=1):
        packed = getattr(batch, "input", None)
        if isinstance(packed, PackedSequence):
            if spec is not None:
                check_batch(batch, spec, f"batch {count - 1} of {where}")
            examples = _unpacked(packed, getattr(batch, "target", None), spec)
            one.lengths += [len(rows) for rows, _ in examples]
            if numbers < ENOUGH:
                one.add(examples, others)
            numbers += packed.data.numel()
        else:
            one.foreign = True
        if spec is None and (one.foreign or numbers >= ENOUGH):
            one.more = True
            break
    return count


def _unpacked(packed: PackedSequence, target: Any, spec: Spec | None) -> list[Example]:
    """The (input, target) pairs of a batch; without a spec, the targets are empty."""
    sizes = packed.batch_sizes
    starts = torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    sequences = torch.arange(len(starts)) - starts
    order, lengths = sequences.argsort(stable=True), sequences.bincount().tolist()
    rows = torch.split(packed.data[order], lengths)
    if spec is None:
        return [(one, one.new_empty(0)) for one in rows]
    targets = torch.split(target[order], lengths) if spec.task in PER_ROW else target.unbind()
    return list(zip(rows, targets, strict=True))


def evaluate_by_population(trainer: Trainer, model: LightningModule) -> None:
    """Population statistics before each validation, as `SequenceTask` has them, for a model that is none."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    if isinstance(model, SequenceTask) or any(isinstance(c, PopulationStatistics) for c in callbacks):
        return
    first = next((k for k, c in enumerate(callbacks) if isinstance(c, Checkpoint)), len(callbacks))
    callbacks.insert(first, PopulationStatistics())
