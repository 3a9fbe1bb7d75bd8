"""Interface between data and tasks: a `Spec`, and batches of ragged sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

Task = Literal["classification", "tagging", "language-modelling", "regression", "multi-label"]


@dataclass(frozen=True)
class Spec:
    """The shape of a data set: all that a model needs to know of it.

    Args:
        task: which kind of prediction the targets ask for.
        vocabularies: sizes of the vocabularies, one per column of token ids; empty if rows are real-valued features.
        num_features: real-valued features per row; 0 if rows are token ids.
        num_outputs: classes, tags, words of the vocabulary, regression targets or labels.
        max_length: T_max, the longest *training* sequence in steps; per-timestep statistics get this many slots.
    """

    task: Task
    vocabularies: tuple[int, ...] = ()
    num_features: int = 0
    num_outputs: int = 0
    max_length: int = 0


class Batch(NamedTuple):
    """A batch of B sequences with N = Σ_t B_t rows in all, longest first.

    Args:
        input: rows in time-major order: `data` is (N, K) int64 token ids with K = len(spec.vocabularies), or (N, F)
            float32. Sequences are sorted by length inside the collate function, so `sorted_indices` is None.
        target: one per sequence, (B,) int64 for classification, (B, num_outputs) float32 for regression, in the order
            of `input`'s sequences; or one per row, (N,) int64 for tagging and language modelling, (N, num_outputs)
            float32 for multi-label, in the order of `input.data`.
        continues: the sequences go on where those of the previous batch stopped: carry the state over (the stateful
            stream of truncated backpropagation through time).
    """

    input: PackedSequence
    target: Tensor
    continues: bool = False
