"""Cases: one effect, measured under one condition, and on which side of a threshold it lies."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rnnnorm.common.estimate import Estimate

HOLDS, FAILS, OPEN = "holds", "fails", "open"


@dataclass(frozen=True)
class Case:
    """One effect, measured under one condition.

    Args:
        condition: under which, in words: `batch size 4`.
        effect: mean and interval over seeds.
        needed: the claim says that the effect is above this.
        below: the claim says that it is below.
    """

    condition: str
    effect: Estimate
    needed: float = 0.0
    below: bool = False

    @property
    def standing(self) -> str:
        """`holds` if the whole interval is on the claim's side of `needed`, `fails` if none of it, `open` otherwise."""
        if self.effect.n < 2 or math.isnan(self.effect.low):
            return OPEN
        above, under = self.effect.low > self.needed, self.effect.high < self.needed
        if above or under:
            return HOLDS if under is self.below else FAILS
        return FAILS if self.effect.low == self.effect.high else OPEN  # exactly `needed`, every time
