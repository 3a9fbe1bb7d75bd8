"""Sizes that are measured, and lengths of the sequences of a ragged batch."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

SHORTEST = 10
"""Steps of the shortest sequence in a ragged batch."""

LENGTHS = ("dense", "uniform", "heavy-tailed")
"""All sequences of length T; uniform over 10…T; log-normal, clipped to 10…T."""


class Shape(NamedTuple):
    """T timesteps, B sequences, I inputs, H hidden units."""

    T: int
    B: int
    I: int  # noqa: E741
    H: int

    def __str__(self) -> str:
        return ",".join(map(str, self))


SHAPES = (Shape(100, 64, 128, 256), Shape(100, 32, 64, 128), Shape(784, 64, 1, 100), Shape(50, 128, 50, 1000))
"""A middle-sized layer, a small one, sequential MNIST (long, one input), and word-level language modelling (wide)."""


def parse_shape(text: str) -> Shape:
    """`"100,64,128,256"` as a shape.

    Raises:
        ValueError: not four whole numbers of at least 1.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or min(numbers) < 1:
        raise ValueError(f"a shape is T,B,I,H, four whole numbers of at least 1 such as {SHAPES[0]}, got {text!r}")
    return Shape(*numbers)


def draw_lengths(kind: str, shape: Shape, seed: int = 0) -> Tensor | None:
    """Lengths (B,) of a batch of sequences; None where all have T steps.

    The first one is T, so that the padded batch has T steps whatever is drawn. Heavy-tailed lengths are log-normal with
    median T/5 and σ = 0.9, so most sequences are short and a few are long, as sentences and utterances are.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in LENGTHS:
        raise ValueError(f"unknown lengths {kind!r}; there are: {', '.join(LENGTHS)}")
    if kind == "dense":
        return None
    random = torch.Generator().manual_seed(seed)
    shortest = min(SHORTEST, shape.T)
    if kind == "uniform":
        lengths = torch.randint(shortest, shape.T + 1, (shape.B,), generator=random)
    else:
        drawn = math.log(shape.T / 5) + 0.9 * torch.randn(shape.B, generator=random)
        lengths = drawn.exp().round().long().clamp(shortest, shape.T)
    lengths[0] = shape.T
    return lengths
