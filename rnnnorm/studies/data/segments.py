"""Frames of noisy segments, each to be named: speech as framewise classifiers see it, generated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rnnnorm.common.ranges import Range, at_least
from rnnnorm.data.base import Spec
from rnnnorm.data.synthetic import Generated, Integers


class Segments(Generated):
    """Name the state that each frame belongs to, as the framewise phone classification of Laurent et al. (2016).

        x_t = M[s] + k C[s'] + σ ε_t          ε_t ~ N(0, I)

    A sequence is a chain of segments. Each has a state s, other than that of the segment before, s', whose trace the
    frames still carry (a coarticulation of strength k; the first segment has none). A segment ends after each frame
    with probability 1/duration. M and C have standard normal rows and belong to the task: all splits share them. One
    frame says little, and what it says must be gathered along its segment. With few training sequences a network can
    learn them by heart, so that fitting and generalizing come apart.

    Args:
        num_states: states.
        num_features: numbers per frame.
        duration: expected frames per segment.
        trace: k, how strongly a frame depends on the segment before.
        noise: σ.
        **keys: see `rnnnorm.data.synthetic.Generated`.

    Raises:
        ValueError: fewer than 2 states, no features, a duration below 1, or a negative strength.
    """

    task = "tagging"
    ranges: ClassVar[Mapping[str, Range]] = {
        "num_states": at_least(2),
        "num_features": at_least(1),
        "duration": at_least(1, why="since a segment has at least 1 frame"),
        "trace": at_least(0),
        "noise": at_least(0),
    }

    def __init__(
        self,
        num_states: int = 10,
        num_features: int = 12,
        duration: float = 4.0,
        trace: float = 0.7,
        noise: float = 1.5,
        **keys: Any,
    ) -> None:
        super().__init__(**keys)
        self.num_states, self.num_features = num_states, num_features
        self.duration, self.trace, self.noise = duration, trace, noise

    @property
    def spec(self) -> Spec:
        """Features in, states out."""
        return Spec(self.task, num_features=self.num_features, num_outputs=self.num_states, max_length=self.max_length)

    def means(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """M and C, (num_states, num_features) each; they depend on the seed of the data alone."""
        random = np.random.default_rng([self.seed, 3])  # 0, 1 and 2 are the splits
        shape = (self.num_states, self.num_features)
        return random.standard_normal(shape), random.standard_normal(shape)

    def generate(self, lengths: Integers, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Make (N, num_features) frames and (N,) states."""
        count, K = int(lengths.sum()), self.num_states
        first = np.zeros(count, dtype=bool)
        first[lengths.cumsum() - lengths] = True
        begins = first | (random.random(count) < 1 / self.duration)
        # Going round a circle by 1 … K-1 never stays; a sequence's first segment may be anything.
        move = np.where(first, random.integers(K, size=count), random.integers(1, K, size=count)) * begins
        state = move.cumsum() % K
        began = np.maximum.accumulate(np.where(begins, np.arange(count), 0))
        before = (state - move[began]) % K
        M, C = self.means()
        rows = M[state] + self.trace * C[before] * ~first[began][:, None]
        rows += self.noise * random.standard_normal(rows.shape)
        return torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(state)
