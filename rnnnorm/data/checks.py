"""Checks of data against their spec: types, shapes, ranges, finite values.

One NaN makes every run of a comparison diverge, and a class too many is an error deep inside a loss. So data are looked
at once, when they are loaded, and what is wrong is said with its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from rnnnorm.data.base import Batch, Spec
from rnnnorm.data.collate import PER_ROW, Example

AT_ONCE = 1 << 18
"""Numbers that are looked at together."""
_HELP = {torch.int64: ".long()", torch.float32: ".float()"}


@dataclass(frozen=True)
class Values:
    """Requirements on a tensor of rows or targets.

    Args:
        name: of one number, such as "token".
        dtype: its type.
        shape: of one row or target.
        sizes: per column, how many values there are, 0, 1, …; empty for real numbers.
        unit: whether real numbers must be between 0 and 1.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    sizes: tuple[int, ...] = ()
    unit: bool = False

    def misfit(self, x: Any, leading: int) -> str | None:
        """Description of what is wrong with the type or the shape of a tensor; None where nothing is.

        Args:
            x: the tensor.
            leading: dimensions before those of one row or target.
        """
        if not isinstance(x, Tensor):
            return f"expected a tensor of {self.name}s, got {type(x).__name__}"
        if x.dtype != self.dtype:
            return f"{self.name}s must be {self.dtype}, got {x.dtype}: use {_HELP[self.dtype]}"
        if x.dim() != leading + len(self.shape) or tuple(x.shape[leading:]) != self.shape:
            expected = ", ".join([*["T"] * leading, *map(str, self.shape)])
            return f"{self.name}s must have shape ({expected}), got {tuple(x.shape)}"
        return None

    def outside(self, x: Tensor) -> tuple[int, str] | None:
        """The first of many rows (n, …) with a number that is none of these, and what is wrong with it."""
        rows = x.reshape(len(x), -1)
        if self._fits(rows):
            return None
        if self.sizes:
            wrong = (rows < 0) | (rows >= rows.new_tensor(self.sizes))
        else:
            wrong = ~torch.isfinite(rows) | (self.unit & ((rows < 0) | (rows > 1)))
        index, column = (int(i) for i in wrong.nonzero()[0])
        name = self.name if rows.shape[1] == 1 else f"{self.name} {column}"
        must = f"from 0 to {self.sizes[column] - 1}" if self.sizes else "between 0 and 1" if self.unit else "finite"
        return index, f"{name} is {rows[index, column].item()}, but must be {must}"

    def _fits(self, rows: Tensor) -> bool:
        if rows.numel() == 0:
            return True
        if self.sizes:
            low, high = torch.aminmax(rows, dim=0)
            return bool((low >= 0).all() and (high < high.new_tensor(self.sizes)).all())
        low, high = torch.aminmax(rows)  # NaN is passed on
        return bool(torch.isfinite(low) and torch.isfinite(high) and (not self.unit or (low >= 0 and high <= 1)))


def rows_of(spec: Spec) -> Values:
    """Requirements on the rows of sequences."""
    if spec.vocabularies:
        return Values("token", torch.int64, (len(spec.vocabularies),), tuple(spec.vocabularies))
    return Values("feature", torch.float32, (spec.num_features,))


def targets_of(spec: Spec) -> Values:
    """Requirements on targets, those of one row or of one sequence."""
    if spec.task == "regression":
        return Values("target", torch.float32, (spec.num_outputs,))
    if spec.task == "multi-label":
        return Values("target", torch.float32, (spec.num_outputs,), unit=True)
    return Values("target", torch.int64, (), (spec.num_outputs,))


def check_splits(splits: Mapping[str, Sequence[Example]], name: str, spec: Spec | None = None) -> None:
    """Look at all sequences.

    Args:
        splits: (input, target) pairs by split.
        name: whose they are.
        spec: what they must be; without it, only that there are some is looked at.

    Raises:
        ValueError: a split other than "val" or a sequence is empty, or something does not fit the spec; it names split,
            sequence, row and value.
    """
    for split, examples in splits.items():
        where = f"the {split} split of {name}"
        if not examples and split != "val":
            raise ValueError(f"{where} is empty")
        for index, (rows, _) in enumerate(examples):
            if len(rows) == 0:
                raise ValueError(f"sequence {index} of {where} has no rows")
        if spec is not None and examples:
            _check_shapes(examples, spec, where)
            _check_values([rows for rows, _ in examples], rows_of(spec), where)
            per_row = spec.task in PER_ROW
            targets = [target if per_row else target.unsqueeze(0) for _, target in examples]
            _check_values(targets, targets_of(spec), where, per_row)


def _check_shapes(examples: Sequence[Example], spec: Spec, where: str) -> None:
    inputs, targets, per_row = rows_of(spec), targets_of(spec), spec.task in PER_ROW
    for index, (rows, target) in enumerate(examples):
        problem = inputs.misfit(rows, 1) or targets.misfit(target, int(per_row))
        if problem is None and per_row and len(rows) != len(target):
            problem = f"{len(rows)} rows and {len(target)} targets: {spec.task} needs one target per row"
        if problem is not None:
            raise ValueError(f"sequence {index} of {where}: {problem}")


def _check_values(tensors: Sequence[Tensor], values: Values, where: str, by_row: bool = True) -> None:
    for start, chunk in chunks(tensors):
        found = values.outside(torch.cat(chunk) if len(chunk) > 1 else chunk[0])
        if found is not None:
            row, problem = found
            for index, tensor in enumerate(chunk, start):
                if row < len(tensor):
                    raise ValueError(f"sequence {index} of {where}{f', row {row}' if by_row else ''}: {problem}")
                row -= len(tensor)


def chunks(tensors: Sequence[Tensor]) -> Iterator[tuple[int, list[Tensor]]]:
    """Parts of the tensors with many numbers each, and the index of their first one."""
    start, count = 0, 0
    for stop, tensor in enumerate(tensors, 1):
        count += tensor.numel()
        if count >= AT_ONCE or stop == len(tensors):
            yield start, list(tensors[start:stop])
            start, count = stop, 0


def check_batch(batch: Batch, spec: Spec, where: str) -> None:
    """Look at a batch of a data module that is no `SequenceDataModule`.

    Args:
        batch: packed sequences and their targets.
        spec: what they must be.
        where: the batch, as in "batch 3 of the train split of MyData".

    Raises:
        ValueError: something does not fit the spec; it names sequence, row and value.
    """
    if not isinstance(batch.input, PackedSequence):
        raise ValueError(f"{where}: input must be a PackedSequence, got {type(batch.input).__name__}")
    rows, target, sizes = batch.input.data, batch.target, batch.input.batch_sizes.tolist()
    values, targets, per_row = rows_of(spec), targets_of(spec), spec.task in PER_ROW
    problem = values.misfit(rows, 1) or targets.misfit(target, 1)
    expected = len(rows) if per_row else sizes[0]
    if problem is None and len(target) != expected:
        problem = f"{len(target)} targets for {expected} {'rows' if per_row else 'sequences'}"
    if problem is not None:
        raise ValueError(f"{where}: {problem}")
    for tensor, kind, by_row in ((rows, values, True), (target, targets, per_row)):
        found = kind.outside(tensor)
        if found is not None:
            sequence, step = found[0], 0
            while by_row and sequence >= sizes[step]:
                sequence, step = sequence - sizes[step], step + 1
            raise ValueError(f"{where}, sequence {sequence}{f', row {step}' if by_row else ''}: {found[1]}")
