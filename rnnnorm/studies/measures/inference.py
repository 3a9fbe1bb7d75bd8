"""Evaluation of one network in every mode, in batches of every size, and what one way costs against another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
from lightning import LightningDataModule

from rnnnorm.norms import has_batch_statistics
from rnnnorm.norms.batch_statistics import BatchNormalizer
from rnnnorm.report.curves import Curve
from rnnnorm.studies.data.plain_training import task_of
from rnnnorm.studies.framework import Row, paired, where
from rnnnorm.studies.measures.regrouped import BIT, MODES, bits_by_step, mean_bits, regrouped, scored, twins
from rnnnorm.tasks import SequenceTask

DEBIASED = ":debias=true"
WAYS = {", plain average": "--", ", debiased": ":"}
"""How else than from mean 0 and variance 1 on averages are made → line style."""
BINS = 10
"""Ranges of timesteps."""


def momentum_of(model: SequenceTask) -> float | None:
    """The weight of the newest batch in a network's running averages; 0: average over all rows; None: it has none."""
    for module in model.modules():
        if isinstance(module, BatchNormalizer):
            return 0.0 if module.momentum is None else module.momentum
    return None


def overrides(momenta: Iterable[float], debiased: Iterable[float]) -> list[str]:
    """What a sweep adds to the name of a norm: momenta other than the usual one (0: plain average), debiased ones."""
    plain = [f":momentum={f'{m:g}' if m else 'none'}" for m in momenta if m != 0.1]
    return [*plain, *(f":momentum={m:g}{DEBIASED}" for m in debiased)]


def base_of(norm: str) -> str:
    """A norm without what is said about its momentum."""
    return ":".join(part for part in norm.split(":") if not part.startswith("momentum="))


def averages_of(model: SequenceTask, norm: str) -> dict[str, Any]:
    """Which averages a network keeps: the `base` of its norm, and the `momentum`, if it has any."""
    momentum = momentum_of(model)
    return {"base": base_of(norm), **({} if momentum is None else {"momentum": momentum})}


def require_classes(data: Mapping[str, Any], study: str) -> None:
    """Refuse the `data` part of a configuration whose targets are no classes.

    Raises:
        ValueError: they are numbers.
    """
    kind = task_of(str(data["class_path"]))
    if kind in ("regression", "multi-label"):
        raise ValueError(f"{study} measures bits per prediction: it needs classes to predict, not {kind}")


def losses_by_mode(model: SequenceTask, data: LightningDataModule, count: int, sizes: Iterable[int]) -> Iterator[Row]:
    """Bits per prediction in every mode: `loss` by `mode` and `rows`, `loss_at` by `t`, `train_split`.

    Args:
        model: a recalibrated network in evaluation mode.
        data: what it was trained on.
        count: sequences that are evaluated.
        sizes: batch sizes besides that of the training.
    """
    full = int(data.batch_size)  # type: ignore[attr-defined]
    examples, task = data.examples("test")[:count], data.task  # type: ignore[attr-defined]
    batches = list(regrouped(examples, task, full))
    stored = has_batch_statistics(model)
    for mode in MODES if stored else MODES[:1]:
        scores = scored(model, batches, mode)
        yield {"quantity": "loss", "mode": mode, "rows": full, "value": mean_bits(scores)}
        longest = int(data.spec.max_length)  # type: ignore[attr-defined]
        for t, bits, number in bits_by_step(scores, max(longest // BINS, 1)):
            yield {"quantity": "loss_at", "mode": mode, "t": t, "count": number, "value": bits}
    seen = list(regrouped(data.examples("train"), task, full, count))  # type: ignore[attr-defined]
    for mode in MODES if stored else MODES[:1]:
        yield {"quantity": "train_split", "mode": mode, "value": mean_bits(scored(model, seen, mode))}
    if not stored:
        return
    for size in sorted({int(size) for size in sizes} - {full}):
        few = list(regrouped(examples, task, size))
        for mode in MODES[:3] if size == 1 else MODES[2:3]:
            yield {"quantity": "loss", "mode": mode, "rows": size, "value": mean_bits(scored(model, few, mode))}
    alone = mean_bits(scored(model, list(twins(examples, task)), "batch"))
    yield {"quantity": "loss", "mode": "own", "rows": 1, "value": alone}


def validation_gap(curves: dict[str, Curve]) -> Iterator[Row]:
    """The gap of the validation loss in the course of training, in bits, by the share of training that is over."""
    running, batch = curves.get("val_running/loss", curves.get("val/loss")), curves.get("val/loss_batch")
    if running is None or batch is None:
        return
    kept = dict(zip(batch.step.tolist(), batch.value.tolist(), strict=True))
    last = max(running.step.tolist(), default=1)
    for step, value in zip(running.step.tolist(), running.value.tolist(), strict=True):
        if step in kept:
            gap = (value - kept[step]) / BIT
            yield {"quantity": "val_gap", "step": int(step), "progress": (step + 1) / (last + 1), "value": gap}


def in_full_batches(losses: pd.DataFrame) -> pd.DataFrame:
    """`full`: the losses in the largest batches of each task."""
    largest = where(losses, mode="population").groupby("task")["rows"].max()
    return losses[losses["rows"] == losses["task"].map(largest)].assign(quantity="full")


def ways(full: pd.DataFrame) -> pd.DataFrame:
    """`predicted`: the losses in evaluation, `how` saying by which statistics where there are stored ones.

    Population statistics do not depend on the momentum: they are told once.
    """
    rows = full[(full["mode"] == "running") | ((full["mode"] == "population") & (full["norm"] == full["base"]))]
    named = rows["mode"].map({"running": " by running averages", "population": " by population statistics"})
    return rows.assign(quantity="predicted", how=named.where(rows["momentum"].notna(), ""))


def averaged(full: pd.DataFrame, debiased: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Losses after a pass, `calibrated`; `averaging`: what running averages lose against them, by `momentum`.

    That of a plain average over all batches (momentum 0, in its `way`) stands at both ends, for a level line.

    Args:
        full: losses in full batches, of averages that begin at mean 0 and variance 1.
        debiased: of debiased ones.
    """
    yield where(full, mode="population").assign(quantity="calibrated", mode="running")
    for rows, way in ((full, ""), (debiased, ", debiased")):
        averaging = paired(where(rows, mode=["running", "population"]), "full", {"mode": "population"}, "averaging")
        yield averaging[averaging["momentum"] > 0].assign(way=way)
        plain = averaging[averaging["momentum"] == 0].assign(way=", plain average")
        yield from (plain.assign(momentum=end) for end in (0.01, 0.3))


def own_moments(losses: pd.DataFrame, full: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The `cost` of a test batch's own moments against the population's, by `rows`; at 1 their variance is 0.

    Args:
        losses: rows of `loss` by `mode` and `rows`, of one norm.
        full: those in full batches, as `full`.
    """
    exact = where(full, mode="population").assign(quantity="loss", rows=0, mode="batch")
    own = losses[(losses["mode"] == "own") | ((losses["mode"] == "batch") & (losses["rows"] > 1))].assign(mode="batch")
    yield paired(pd.concat([own, exact], ignore_index=True), "loss", {"rows": 0}, "cost")
