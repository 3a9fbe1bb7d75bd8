"""Random choices of a case, the same ones for the same kind, number and seed on every machine."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """The choices of one case.

    Args:
        seed: of the whole soak.
        kind: of the case.
        number: of the case.
    """

    def __init__(self, seed: int, kind: str, number: int) -> None:
        self.number = number
        self._random = random.Random(f"{seed}/{kind}/{number}")

    def pick(self, values: Sequence[T]) -> T:
        return values[int(self._random.random() * len(values))]

    def sample(self, values: Sequence[T], count: int) -> list[T]:
        return self._random.sample(list(values), min(count, len(values)))

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def integer(self, first: int, last: int) -> int:
        """A number from `first` to `last`, both included."""
        return first + int(self._random.random() * (last - first + 1))

    def weighted(self, choices: dict[T, float]) -> T:
        return self._random.choices(list(choices), list(choices.values()))[0]
