"""Tiny ragged batches of every task, and a trainer that leaves no trace."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from rnnnorm.data.base import Batch, Spec
from rnnnorm.tasks import TASKS, SequenceTask

SPECS = {
    "classification": Spec("classification", vocabularies=(11,), num_outputs=3, max_length=9),
    "tagging": Spec("tagging", vocabularies=(11, 5), num_outputs=4, max_length=9),
    "language-modelling": Spec("language-modelling", vocabularies=(11,), num_outputs=11, max_length=9),
    "regression": Spec("regression", num_features=3, num_outputs=2, max_length=9),
    "multi-label": Spec("multi-label", num_features=6, num_outputs=6, max_length=9),
}
RAGGED = ([9, 5, 5, 2], [7, 6, 1], [3, 3, 2, 2, 1, 1])


class Batches(list[Batch]):
    """A list that Lightning takes for one loader, and not for a collection of loaders."""

    def __getitem__(self, key: Any) -> Any:
        return Batches(super().__getitem__(key)) if isinstance(key, slice) else super().__getitem__(key)


def packed(rows: Tensor, lengths: list[int]) -> PackedSequence:
    sizes = [sum(length > t for length in lengths) for t in range(max(lengths))]
    return PackedSequence(rows, torch.tensor(sizes))


def batch_of(spec: Spec, lengths: list[int], seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    N = sum(lengths)
    if spec.vocabularies:
        rows = torch.stack([torch.randint(size, (N,), generator=g) for size in spec.vocabularies], 1)
    else:
        rows = torch.randn(N, spec.num_features, generator=g)
    target = {
        "classification": lambda: torch.randint(spec.num_outputs, (len(lengths),), generator=g),
        "regression": lambda: torch.randn(len(lengths), spec.num_outputs, generator=g),
        "multi-label": lambda: (torch.rand(N, spec.num_outputs, generator=g) < 0.3).float(),
    }.get(spec.task, lambda: torch.randint(spec.num_outputs, (N,), generator=g))()
    return Batch(packed(rows, lengths), target)


def batches_of(task: str, seed: int = 0) -> Batches:
    return Batches(batch_of(SPECS[task], lengths, seed + i) for i, lengths in enumerate(RAGGED))


def stream_of(spec: Spec, steps: int, sequences: int = 3, bptt: int = 4, seed: int = 0) -> tuple[Batches, Batch]:
    """A text in pieces of `bptt` steps, and the same text as one batch."""
    whole = batch_of(spec, [steps] * sequences, seed)
    rows, targets = whole.input.data.split(bptt * sequences), whole.target.split(bptt * sequences)
    lengths = [len(r) // sequences for r in rows]
    pieces = Batches(
        Batch(packed(r, [n] * sequences), t, continues=k > 0)
        for k, (r, t, n) in enumerate(zip(rows, targets, lengths, strict=True))
    )
    return pieces, whole


def model_of(task: str, **keys: Any) -> SequenceTask:
    defaults: dict[str, Any] = {"hidden_size": 8, "embedding_size": 6}
    return TASKS[task](SPECS[task], **{**defaults, **keys})


def trainer_of(**keys: Any) -> L.Trainer:
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "max_epochs": 1,
    }
    return L.Trainer(**{**quiet, **keys})
