"""Summary of a data set before training: one line per split, and warnings of what spoils a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnnnorm.data.base import Spec
from rnnnorm.data.checks import chunks
from rnnnorm.data.collate import PER_ROW, Example
from rnnnorm.data.vocabulary import UNK

ENOUGH = 1 << 26
"""Numbers of one split that are summarized, about a second's work; of more, every n-th sequence is taken."""
DOMINANT = 0.95
"""Share of a class above which there is a warning."""
SPREAD = 1e3
"""Ratio of the features' ranges above which there is a warning."""
UNKNOWN = 0.5
"""Share of unknown tokens above which there is a warning."""
REPEATED = 0.01
"""Share of test sequences that are training sequences, too, above which there is a warning."""
CLASSES = ("classification", "tagging")


@dataclass
class Split:
    """What is known of a split.

    Args:
        spec: of the data; None if unknown: then nothing is said of targets.
        unk: per column of tokens, the id of ``<unk>``; -1 where there is none.
    """

    spec: Spec | None
    unk: tuple[int, ...] = ()
    lengths: list[int] = field(default_factory=list)
    """Of all sequences."""
    seen: int = 0
    """Sequences that everything below is about."""
    rows: int = 0
    unknown: int = 0
    """Unknown tokens in the first column that has an ``<unk>``."""
    counts: Tensor | None = None
    """Targets of each class, (num_outputs,)."""
    low: Tensor | None = None
    high: Tensor | None = None
    """Smallest and largest value of each feature, (F,)."""
    targets: tuple[float, float] = (math.inf, -math.inf)
    """Smallest and largest real-valued target."""
    hashes: set[int] = field(default_factory=set)
    """Of the inputs of sequences."""
    repeated: int = 0
    """Sequences whose input is in another split, too; see `add`."""
    foreign: bool = False
    """Whether there are batches of another kind than `rnnnorm.data.Batch`, which are not looked at."""
    more: bool = False
    """Whether there are sequences behind the last one that `lengths` has."""

    def add(self, examples: Sequence[Example], others: set[int] | None = None) -> None:
        """Take more sequences into account.

        Args:
            examples: (input, target) pairs that fit the spec.
            others: hashes of the split that these sequences should not be in.
        """
        for start, inputs in chunks([rows for rows, _ in examples]):
            part = examples[start : start + len(inputs)]
            own = [hash(rows.detach().cpu().contiguous().numpy().tobytes()) for rows in inputs]
            self.hashes.update(own)
            self.repeated += sum(one in others for one in own) if others else 0
            self.seen += len(part)
            self._add_rows(torch.cat(inputs))
            if self.spec is not None:
                per_row = self.spec.task in PER_ROW
                self._add_targets(torch.cat([y if per_row else y.unsqueeze(0) for _, y in part]), self.spec)

    def _add_rows(self, rows: Tensor) -> None:
        self.rows += len(rows)
        if rows.is_floating_point():
            low, high = torch.aminmax(rows.flatten(1), dim=0)
            self.low = low if self.low is None else torch.minimum(self.low, low)
            self.high = high if self.high is None else torch.maximum(self.high, high)
        column = next((k for k, unk in enumerate(self.unk) if unk >= 0), None)
        if column is not None:
            self.unknown += int((rows[:, column] == self.unk[column]).sum())

    def _add_targets(self, targets: Tensor, spec: Spec) -> None:
        if spec.task in CLASSES:
            counts = torch.bincount(targets, minlength=spec.num_outputs)
            self.counts = counts if self.counts is None else self.counts + counts
        elif spec.task == "regression":
            low, high = self.targets
            self.targets = min(low, float(targets.min())), max(high, float(targets.max()))

    def describe(self, names: Sequence[str], guess: int | None) -> str:
        """One line.

        Args:
            names: of the classes.
            guess: the class that is most frequent in training.
        """
        if not self.lengths:
            return "batches of another kind than rnnnorm.data.Batch" if self.foreign else "no sequences"
        low, middle, high = (int(x) for x in np.percentile(self.lengths, [0, 50, 100], method="nearest"))
        steps = f"of {low:,} to {high:,} steps (median {middle:,})" if low < high else f"of {count(low, 'step')}"
        parts = [f"{count(len(self.lengths), 'sequence')} {steps}"]
        if self.counts is not None and guess is not None:
            share = float(self.counts[guess] / self.counts.sum())
            present = int((self.counts > 0).sum())
            parts.append(f"{count(present, 'class', 'es')}, always guessing {names[guess]} scores {share:.3f}")
        if self.low is not None and self.high is not None:
            ends = f"from {float(self.low.min()):.4g} to {float(self.high.max()):.4g}"
            parts.append(f"{count(len(self.low), 'feature')} {ends}")
        if self.unknown >= 0.0005 * self.rows > 0:
            parts.append(f"{self.unknown / self.rows:.1%} of tokens unknown")
        if self.targets[0] <= self.targets[1]:
            parts.append(f"targets from {self.targets[0]:.4g} to {self.targets[1]:.4g}")
        if self.seen < len(self.lengths):
            parts.append(f"all but the lengths from {count(self.seen, 'sequence')} of them")
        if self.more:
            parts.append("more were not looked at")
        return "; ".join(parts)


def count(number: int, noun: str, plural: str = "s") -> str:
    """A number with its noun."""
    return f"{number:,} {noun}{plural if number != 1 else ''}"


def empty(spec: Spec | None, data: Any) -> Split:
    """A split of which nothing is known yet.

    Args:
        spec: of the data.
        data: the data module; if it has `vocabularies`, those of the input columns come first.
    """
    vocabularies = getattr(data, "vocabularies", None)
    if spec is None or not isinstance(vocabularies, Mapping):
        return Split(spec)
    columns = list(vocabularies.values())[: len(spec.vocabularies)]
    return Split(spec, tuple(tokens.index(UNK) if UNK in tokens else -1 for tokens in columns))


def sampled(examples: Sequence[Example]) -> Sequence[Example]:
    """All sequences, or every n-th one, so that these have about `ENOUGH` numbers."""
    every = math.ceil(sum(rows.numel() for rows, _ in examples) / ENOUGH)
    return examples if every <= 1 else examples[::every]


def lines(splits: Mapping[str, Split], spec: Spec | None, class_names: Any, batches: int | None) -> list[str]:
    """What is to be said of a data set: a line per split, and one per warning.

    Args:
        splits: "train", "val" and "test", as far as they exist.
        spec: of the data.
        class_names: the classes' names, if there are some.
        batches: training batches per epoch, if that is known.
    """
    outputs = spec.num_outputs if spec is not None else 0
    named = isinstance(class_names, Sequence) and len(class_names) == outputs
    names = [repr(str(name)) for name in class_names] if named else [f"class {k}" for k in range(outputs)]
    counts = splits["train"].counts
    guess = int(counts.argmax()) if counts is not None else None
    said = [f"{split + ':':<7}{one.describe(names, guess)}" for split, one in splits.items()]
    return said + [f"warning: {text}" for text in _warnings(splits, names, guess, batches)]


def _warnings(splits: Mapping[str, Split], names: list[str], guess: int | None, batches: int | None) -> list[str]:
    train, val, test = (splits.get(split) for split in ("train", "val", "test"))
    assert train is not None
    found = []
    if val is None or not (val.lengths or val.foreign):
        found.append("nothing is validated: the last weights are evaluated, not the best")
    if batches == 1:
        every = count(len(train.lengths), "training sequence") if train.lengths else "training data"
        found.append(f"one optimizer step per epoch: a batch holds all {every}")
    if train.lengths and max(train.lengths) == 1:
        found.append("all training sequences have one step: nothing is carried from step to step")
    if train.counts is not None and guess is not None:
        share = float(train.counts[guess] / train.counts.sum())
        if share == 1:
            found.append(f"all training targets are {names[guess]}: there is nothing to learn")
        elif share > DOMINANT:
            found.append(f"{share:.1%} of the training targets are {names[guess]}: guessing it scores as much")
        if test is not None and test.counts is not None:
            new = [names[k] for k in ((test.counts > 0) & (train.counts == 0)).nonzero().flatten().tolist()]
            if new:
                found.append(f"{_listed(new)} in the test split but never in training")
    if test is not None and test.repeated > REPEATED * test.seen:
        least = "at least " if train.seen < len(train.lengths) else ""
        found.append(f"{least}{test.repeated / test.seen:.1%} of the test sequences are training sequences, too")
    if train.low is not None and train.high is not None:
        found += _of_features(train.high - train.low)
    for split, one in splits.items():
        if one.unknown > UNKNOWN * one.rows:
            found.append(f"{one.unknown / one.rows:.1%} of the tokens of the {split} split are unknown")
    return found


def _of_features(ranges: Tensor) -> list[str]:
    """Warnings of features by their ranges in training, (F,)."""
    found = []
    constant = [f"feature {k}" for k in (ranges == 0).nonzero().flatten().tolist()]
    if constant:
        found.append(f"{_listed(constant)} constant in the training split")
    ranges = torch.where(ranges > 0, ranges, math.nan)
    moving = ranges[~ranges.isnan()]
    if len(moving) and float(moving.max() / moving.min()) > SPREAD:
        wide, narrow = (int((ranges == end).nonzero()[0]) for end in (moving.max(), moving.min()))
        found.append(
            f"the ranges of features {wide} and {narrow} are {moving.max():.3g} and {moving.min():.3g}: "
            "standardize them, or the narrow one goes unnoticed"
        )
    return found


def _listed(things: list[str]) -> str:
    """The first few things, with a verb: "'a', 'b' and 7 more are"."""
    more = f" and {len(things) - 3:,} more" if len(things) > 3 else ""
    return f"{', '.join(things[:3])}{more} {'is' if len(things) == 1 else 'are'}"
