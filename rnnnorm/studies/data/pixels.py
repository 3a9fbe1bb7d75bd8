"""Pictures read pixel by pixel, for measurements at initialization: MNIST where it is at hand, else drawn strokes."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

SIDE = 28
PICTURES = 60_000
"""In MNIST's training set, one of which is for validation."""


def strokes(count: int, seed: int) -> Tensor:
    """Drawn pictures that have what matters of MNIST here: a black border, the same in all, and smooth bright strokes.

    Each is three thick line segments within the inner 20 × 20 pixels, blurred; values from 0 to 1.

    Returns:
        (28², count, 1): time-major, one pixel per step, float64.
    """
    random = np.random.default_rng(seed)
    pictures = np.zeros((count, SIDE, SIDE))
    along = np.linspace(0, 1, 40)
    for picture in pictures:
        for _ in range(3):
            (y0, x0), (y1, x1) = random.uniform(5, 22, size=(2, 2))
            rows, columns = (y0 + along * (y1 - y0)).round(), (x0 + along * (x1 - x0)).round()
            picture[rows.astype(int), columns.astype(int)] = 1
        picture[4:24, 4:24] = np.minimum(2.5 * gaussian_filter(picture, 0.8)[4:24, 4:24], 1)
    return torch.from_numpy(pictures.reshape(count, -1).T.copy()).unsqueeze(2)


def pixels(count: int, seed: int, data_dir: str | None) -> Tensor:
    """A batch of MNIST's training pictures, or `strokes` without data: (784, count, 1), float64.

    Seed s has the s-th `count` pictures; seeds beyond the last whole batch begin again with the first one.
    """
    if data_dir is None:
        return strokes(count, seed)
    from rnnnorm.data import SequentialMNIST

    first = seed % ((PICTURES - 1) // count) * count
    data = SequentialMNIST(data_dir=data_dir, num_train=first + count, num_val=1, num_test=1)
    pictures = data.examples("train")[first:]
    return torch.stack([rows for rows, _ in pictures], 1).double()
