"""Batches whose sequences all begin alike: constant symbols, and the black border of sequential MNIST."""

from __future__ import annotations

import torch
from torch import Tensor

from rnnnorm.data import SequentialMNIST

AFTER = 20
"""Random steps after the constant ones."""


def symbols(blank: int, batch_size: int) -> tuple[Tensor, int]:
    """One-hot symbols (T, B, 50), the first `blank` of which are the same in all sequences; and `blank`."""
    drawn = torch.zeros(blank + AFTER, batch_size, dtype=torch.long)
    drawn[blank:] = torch.randint(50, (AFTER, batch_size))
    return torch.nn.functional.one_hot(drawn, 50).double(), blank


def black_border(batch_size: int, data_dir: str | None) -> tuple[Tensor, int]:
    """Pixels (T, B, 1) of some digits up to `AFTER` steps behind their common black border; and its length."""
    data = SequentialMNIST(num_train=batch_size * 16, num_val=1, num_test=1, data_dir=data_dir, download=False)
    chosen = torch.randperm(batch_size * 16)[:batch_size].tolist()
    pixels = torch.stack([data.examples("train")[k][0] for k in chosen], 1).double()
    same = (pixels == pixels[:, :1]).all(dim=1).flatten()
    blank = int(same.long().cumprod(0).sum())
    return pixels[: blank + AFTER], blank
