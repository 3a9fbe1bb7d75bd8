"""What stored statistics cost a trained network, and what is left of that when some of their slots are mended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from rnnnorm.data.base import Batch
from rnnnorm.data.module import SequenceDataModule
from rnnnorm.norms import recalibrate, statistics
from rnnnorm.studies.data.plain_training import evaluate
from rnnnorm.studies.framework import Row
from rnnnorm.studies.measures.slots import (
    Moments,
    Slots,
    amplification,
    exchanged,
    floored,
    multipliers,
    one_slot,
    put,
    settle,
    stored,
    with_error,
)
from rnnnorm.tasks import SequenceTask

BASES = ("running", "pooled")
"""Stored statistics that are looked at: moving averages of training, and moments pooled over batches after it."""


class Mended:
    """A trained network under stored statistics that are exchanged slot by slot.

    Args:
        model: in evaluation mode, with stored statistics; its population statistics are overwritten. Inputs are given
            the type of its weights.
        data: what it was trained on; scores are those of its test split.
        sign: 1 where a larger metric is better, -1 where a smaller one is: scores are such that larger is better.
        rows: training sequences of the one consistent batch.
    """

    def __init__(self, model: SequenceTask, data: SequenceDataModule, sign: float, rows: int) -> None:
        self.model, self.data, self.sign, self.rows = model, data, sign, rows
        self.batch = next(self._typed(data.training_sample(rows)))
        self.right = self.consistent(rows)
        self.best = self.score(self.right)
        self.amplified = amplification(model, self.right)
        self.bases = {"running": stored(model, "running"), "pooled": self._pooled()}

    def _typed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Batches whose inputs, where they are no tokens, have the type of the weights."""
        dtype = next(self.model.parameters()).dtype
        for batch in batches:
            floating = batch.input.data.is_floating_point()
            yield batch._replace(input=batch.input.to(dtype)) if floating else batch

    def consistent(self, rows: int) -> Moments:
        """The moments of training sequences that are normalized as one batch."""
        sample = [*self._typed(self.data.training_sample(rows))]
        recalibrate(self.model, sample, forward=self.model.encode, rows=None)
        return stored(self.model)

    def _pooled(self) -> Moments:
        """The moments that each training batch has when it is normalized by its own, pooled."""
        batches = self._typed(self.data.train_dataloader())
        recalibrate(self.model, batches, forward=self.model.encode, way="pooled", rows=None)
        return stored(self.model)

    @torch.no_grad()
    def score(self, moments: Moments) -> float:
        """The test score by these moments."""
        put(self.model, moments)
        return self._evaluated("population")

    def _evaluated(self, source: str) -> float:
        with statistics(self.model, source):
            return self.sign * evaluate(self.model, self._typed(self.data.test_dataloader()))[1]

    def by_base(self) -> Iterator[Row]:
        """`score` by `base` and `taken`: by statistics as they are stored ("none"), and by the consistent ones ("all").

        Running averages are scored as training left them, `mute` included.
        """
        with torch.no_grad():
            running = self._evaluated("running")
        for name in BASES:
            value = running if name == "running" else self.score(self.bases[name])
            yield {"quantity": "score", "base": name, "taken": "none", "value": value}
            yield {"quantity": "score", "base": name, "taken": "all", "value": self.best}

    def exchanges(self, limit: float, above: Sequence[float], floor: float) -> Iterator[Row]:
        """`lost`: by how much scores are below those by consistent statistics, by `base` and `taken` slots.

        "constant": slots whose amplification is above the limit are copied from the consistent batch, "others": all but
        these; "settled" and "others settled": the same ones, estimated anew where they stand; "floor": none, but
        variances are at least `floor`. `left` by `above`: slots with an amplification above that are copied.

        Args:
            limit: amplification from which on a slot is called almost constant.
            above: further limits.
            floor: of variances.
        """
        constant = [by > limit for by in self.amplified]
        others = [~chosen for chosen in constant]
        yield {"quantity": "constant", "value": sum(int(chosen.sum()) for chosen in constant)}
        yield {"quantity": "slots", "value": sum(len(chosen) for chosen in constant)}
        for name in BASES:
            base = self.bases[name]
            made: dict[str, Moments] = {
                "none": base,
                "constant": exchanged(base, self.right, constant),
                "others": exchanged(base, self.right, others),
                "floor": floored(base, floor),
            }
            for taken, slots in (("settled", constant), ("others settled", others)):
                made[taken] = self._settled(base, slots)
            for taken, moments in made.items():
                value = self.best - self.score(moments)
                yield {"quantity": "lost", "base": name, "taken": taken, "value": value}
            for bound in above:
                mended = exchanged(base, self.right, [by > bound for by in self.amplified])
                yield {"quantity": "left", "base": name, "above": bound, "value": self.best - self.score(mended)}

    def _settled(self, base: Moments, slots: Slots) -> Moments:
        """Moments of which some slots are estimated anew where they stand."""
        put(self.model, base)
        settle(self.model, self.batch, slots)
        return stored(self.model)

    def exactly(self, limit: float) -> Iterator[Row]:
        """`exact`: as `lost`, for a network in 64 bits, by `base` and `taken`: "none" and "settled".

        An almost constant slot multiplies the rounding of a mean in 32 bits as it does any other error.

        Args:
            limit: amplification from which on a slot is called almost constant.
        """
        constant = [by > limit for by in self.amplified]
        for name, base in self.bases.items():
            for taken, moments in (("none", base), ("settled", self._settled(base, constant))):
                yield {"quantity": "exact", "base": name, "taken": taken, "value": self.best - self.score(moments)}

    def samples(self, sizes: Sequence[int]) -> Iterator[Row]:
        """`gained` by `rows`: scores by one consistent batch of so many sequences, minus those by all, pooled."""
        pooled = self.score(self.bases["pooled"])
        for rows in sizes:
            yield {"quantity": "gained", "rows": rows, "value": self.score(self.consistent(rows)) - pooled}

    def injected(self, sizes: Sequence[float], shifts: Sequence[float]) -> Iterator[Row]:
        """What an error in the mean of one `slot` costs, everything else being right: `injected` and `shifted`.

        The "constant" slot has the largest amplification, the "ordinary" one the median. Errors have alternating signs
        over the features; their size is given by itself (`size`), or by what it makes of normalized values in theory,
        γδ/√(σ² + ε) (`shift`). `amplified` is that of the slot.
        """
        by = multipliers(self.model, self.right)
        for name, rank in (("constant", 1.0), ("ordinary", 0.5)):
            slots = one_slot(self.amplified, self.right, rank)
            there = torch.cat([a[chosen] for a, chosen in zip(self.amplified, slots, strict=True)])
            yield {"quantity": "amplified", "slot": name, "value": float(there)}
            for size in sizes:
                wrong = with_error(self.right, slots, [size] * len(slots))
                yield {"quantity": "injected", "slot": name, "size": size, "value": self.best - self.score(wrong)}
            for shift in shifts:
                wrong = with_error(self.right, slots, [(shift / part).float() for part in by])
                yield {"quantity": "shifted", "slot": name, "shift": shift, "value": self.best - self.score(wrong)}


def everything(mended: Mended, option: Mapping[str, Any]) -> Iterator[Row]:
    """All that a study measures of one network, by its options `limit`, `above`, `floor`, `sizes` and so on."""
    yield from mended.exchanges(float(option["limit"]), option["above"], float(option["floor"]))
    yield from mended.samples(option["samples"])
    yield from mended.injected(option["errors"], option["shifts"])
