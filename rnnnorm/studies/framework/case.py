"""Cases: one effect, measured under one condition, and where it stands to the smallest effect of interest."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

from scipy import stats

from rnnnorm.common.estimate import Estimate, quantile
from rnnnorm.studies.framework.interval import LOOKS, NOMINAL, corrected_for_looks

SUPPORTED, OPPOSITE, NEGLIGIBLE, UNDECIDED = "supported", "opposite", "negligible", "undecided"
NOT_LEARNED, NOT_APPLICABLE = "not learned", "not applicable"
DECIDED = (SUPPORTED, OPPOSITE, NEGLIGIBLE)
MOST_SEEDS = 100_000


@dataclass(frozen=True)
class Case:
    """One effect e, measured under one condition, with its interval.

    The claim says that e is beyond `needed`. What distinguishes its standings is the margin d = ±(needed - null), the
    sign being that of the claim's direction:

    - d > 0: the claim asserts an effect of at least δ = d, the smallest one of interest. `supported`: the whole
      interval is beyond δ; `opposite`: beyond -δ; `negligible`: inside ±δ; `undecided` otherwise.
    - d < 0: the claim asserts that nothing worse than δ = -d happens. `supported`: the whole interval is better than
      -δ; `opposite`: worse. d = 0 is a mere threshold and has the same two.

    Args:
        condition: under which, in words: `batch size 4`.
        effect: mean and interval over seeds.
        needed: the claim says that the effect is above this.
        below: the claim says that it is below.
        null: the effect if there is none: 0 for differences, 1 for factors.
        cluster: cases with the same cluster are made from the same runs; None: from runs of its own.
        in_scope: whether the source of the claim speaks of this condition; others are shown and not counted.
        aside: why this is no evidence: `not learned` or `not applicable`.
    """

    condition: str
    effect: Estimate
    needed: float = 0.0
    below: bool = False
    null: float = 0.0
    cluster: Hashable = None
    in_scope: bool = True
    aside: str = ""

    @property
    def sign(self) -> float:
        """1 where the claim says "above", -1 where it says "below"."""
        return -1.0 if self.below else 1.0

    @property
    def margin(self) -> float:
        """d, in the unit of the effect."""
        return self.sign * (self.needed - self.null)

    @property
    def limit(self) -> float:
        """What an `opposite` effect is under, in the direction of the claim, from `null`: -δ."""
        return -abs(self.margin)

    @property
    def unit(self) -> float:
        """δ, in which effects of several conditions become comparable; the threshold itself where it has none."""
        return abs(self.margin) or abs(self.needed) or 1.0

    @property
    def towards(self) -> tuple[float, float, float]:
        """Mean and interval from `null` in the direction of the claim, low before high."""
        ends = [self.sign * (value - self.null) for value in (self.effect.low, self.effect.high)]
        return self.sign * (self.effect.mean - self.null), min(ends), max(ends)

    @property
    def standing(self) -> str:
        """`supported`, `opposite`, `negligible`, `undecided`, `not learned` or `not applicable`."""
        if self.aside:
            return self.aside
        _, low, high = self.towards
        if self.effect.n < 2 or math.isnan(self.effect.low):
            return UNDECIDED
        if low > self.margin:
            return SUPPORTED
        if high < self.limit or (self.margin < 0 and low == high == self.limit):  # exactly there is not better
            return OPPOSITE
        inside = low >= self.limit and high <= self.margin and (self.margin > 0 or low == high)
        return NEGLIGIBLE if inside else UNDECIDED

    @property
    def decided(self) -> bool:
        """Whether it is supported, opposite or negligible."""
        return self.standing in DECIDED

    @property
    def error(self) -> float:
        """Standard error of the effect; NaN where there is none."""
        if self.effect.n < 2 or not math.isfinite(self.effect.high - self.effect.low):
            return math.nan
        return (self.effect.high - self.effect.low) / 2 / quantile(1 - NOMINAL, self.effect.n - 1)

    def p(self, standing: str) -> float:
        """The p value of a standing, for all four looks: how likely an effect outside of it looks at least like this.

        Args:
            standing: `supported`, `opposite` or `negligible`; 1 for any other.
        """
        mean, low, _ = self.towards
        gaps = {
            SUPPORTED: mean - self.margin,
            OPPOSITE: self.limit - mean,
            NEGLIGIBLE: min(self.margin - mean, mean - self.limit) if self.margin > 0 else -math.inf,
        }
        if standing not in gaps or self.aside or self.effect.n < 2 or math.isnan(low):
            return 1.0
        gap, error = gaps[standing], self.error
        if math.isfinite(gap) and error > 0:
            return corrected_for_looks(min(1.0, 2 * float(stats.t.sf(gap / error, self.effect.n - 1))))
        if error == 0 or self.effect.low == self.effect.high:
            return 0.0 if gap > 0 or (standing == NEGLIGIBLE and gap == 0) else 1.0
        return corrected_for_looks(NOMINAL) if self.standing == standing else 1.0  # order statistics

    def seeds_to_reach(self, p: float) -> int | None:
        """At how many seeds its own standing would have at most this p value, mean and standard deviation staying.

        None where it has no standing, or where they would be more than the last look has.
        """
        error = self.error
        if not self.decided or math.isnan(error):
            return None
        mean = self.towards[0]
        gap = min(abs(mean - end) for end in {self.margin, self.limit})
        for n in range(self.effect.n, LOOKS[-1] + 1):
            smaller = error * math.sqrt(self.effect.n / n)
            if not smaller or corrected_for_looks(min(1.0, 2 * float(stats.t.sf(gap / smaller, n - 1)))) <= p:
                return n
        return None

    def seeds_to_decide(self) -> int | None:
        """How many seeds would decide it if mean and standard deviation stayed as they are; None: cannot be said."""
        if self.decided or self.aside:
            return None
        if math.isnan(self.error):  # infinite values: as many as give the smallest and the largest one the confidence
            fewest = math.ceil(1 - math.log2(NOMINAL))
            return fewest if math.isinf(self.effect.mean) and self.effect.n < fewest else None
        mean = self.towards[0]
        ends = {self.margin, self.limit}
        gap, deviation = min(abs(mean - end) for end in ends), self.error * math.sqrt(self.effect.n)
        if gap == 0:
            return None
        n = max(self.effect.n + 1, int((quantile(1 - NOMINAL, 10_000) * deviation / gap) ** 2))
        while n < MOST_SEEDS and quantile(1 - NOMINAL, n - 1) * deviation / math.sqrt(n) >= gap:
            n = max(n + 1, int(1.02 * n))
        return min(n, MOST_SEEDS)
