"""From measured effects to a verdict on a claim."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

from rnnnorm.report.inference import holm
from rnnnorm.studies.framework.case import (
    DECIDED,
    NEGLIGIBLE,
    OPPOSITE,
    SUPPORTED,
    UNDECIDED,
    Case,
)
from rnnnorm.studies.framework.claim import Claim
from rnnnorm.studies.framework.interval import ERROR, corrected_for_looks
from rnnnorm.studies.framework.random_effects import Pooled, pool

HETEROGENEOUS = "heterogeneous"
VERDICTS = (SUPPORTED, OPPOSITE, NEGLIGIBLE, HETEROGENEOUS, UNDECIDED)
LEAST_ERROR = 0.05
"""No condition counts as more precise than this, in units of its smallest effect of interest."""
FARTHEST = 20.0
"""No condition counts as farther away than this, in the same unit: an infinite effect has to be somewhere."""


@dataclass(frozen=True)
class Verdict:
    """What the measurements say about a claim.

    Args:
        claim: the claim.
        verdict: one of `VERDICTS`; see `judge`.
        unit: of the effects: `accuracy points`, `nats`, `factor per step`, …
        cases: every effect, the one of the headline first.
        says: one or two sentences made from the numbers.
        pooled: mean over the conditions in scope, in units of δ; None where it is not needed or cannot be had.
        p: p value of the verdict, for all looks, before correction over claims; 1 for `undecided`.
    """

    claim: Claim
    verdict: str
    unit: str
    cases: tuple[Case, ...]
    says: str = ""
    pooled: Pooled | None = None
    p: float = 1.0

    @property
    def headline(self) -> Case:
        """The case whose effect stands in the table of claims."""
        return self.cases[0]

    def as_dict(self) -> dict[str, Any]:
        """As it stands in `verdict.json`."""
        head = self.headline.effect
        return {
            "key": self.claim.key,
            "claim": self.claim.text,
            "source": self.claim.source,
            "published": self.claim.published,
            "verdict": self.verdict,
            "p": self.p,
            "pooled": None if self.pooled is None else asdict(self.pooled),
            "effect": head.mean,
            "interval": [head.low, head.high],
            "n": head.n,
            "unit": self.unit,
            "condition": self.headline.condition,
            "says": self.says,
            "conditions": [
                {
                    "condition": case.condition,
                    "standing": case.standing,
                    "effect": case.effect.mean,
                    "interval": [case.effect.low, case.effect.high],
                    "n": case.effect.n,
                    "needed": f"{'<' if case.below else '>'} {case.needed:g}",
                    "null": case.null,
                    "in_scope": case.in_scope,
                    "seeds_to_decide": case.seeds_to_decide(),
                }
                for case in self.cases
            ],
        }


def judge(claim: Claim, unit: str, cases: Sequence[Case], says: str = "", headline: int = 0) -> Verdict:
    """The verdict on a claim from the effects measured under its conditions.

    Conditions in the scope of the claim's source count, those set aside (not learned, not applicable) do not. Where all
    of them have the same standing, that is the verdict: its error is that of one condition, since all have to err.
    Otherwise effects in units of δ are pooled by random effects, conditions from the same runs having one vote. The
    claim is

    - `heterogeneous` if Holm's procedure over conditions finds at least one that supports the claim and one that is
      opposite, and Cochran's Q is significant; effects that have no common unit, or are those of one run, have no Q;
    - `supported`, `opposite` or `negligible` by the interval of the pooled effect, as for a single condition;
    - `undecided` in all other cases.

    Args:
        claim: the claim.
        unit: of the effects.
        cases: one per condition; a case without any value is left out.
        says: sentences made from the numbers; without, the conditions are listed.
        headline: index of the case that stands in the table of claims.

    Raises:
        ValueError: no case was given, or there is no case `headline`.
    """
    if not cases:
        raise ValueError(f"claim {claim.key!r}: no case to judge it by")
    if not 0 <= headline < len(cases):
        raise ValueError(f"claim {claim.key!r}: there is no case {headline} among {len(cases)} to stand in the table")
    ordered = [cases[headline], *(case for k, case in enumerate(cases) if k != headline)]
    measured = [case for case in ordered if case.effect.n > 0]
    verdict, p, pooled = _decide([case for case in measured if case.in_scope and not case.aside])
    return Verdict(claim, verdict, unit, tuple(measured or ordered), says or listing(measured), pooled, p)


def _decide(cases: Sequence[Case]) -> tuple[str, float, Pooled | None]:
    """Verdict, its p value, and the pooled effect, of conditions that count."""
    standings = {case.standing for case in cases}
    pooled = _pooled(cases)
    if len(standings) == 1 and (standing := standings.pop()) in DECIDED:
        return standing, max(case.p(standing) for case in cases), pooled
    if standings == {OPPOSITE, NEGLIGIBLE} and len({case.margin > 0 for case in cases}) == 2:
        return OPPOSITE, max(case.p(case.standing) for case in cases), None  # of both kinds, and none of them is so
    if not cases:
        return UNDECIDED, 1.0, None
    both = [min(holm([case.p(standing) for case in cases])) for standing in (SUPPORTED, OPPOSITE)]
    if pooled is None:
        return (HETEROGENEOUS, max(both), None) if max(both) < ERROR else (UNDECIDED, 1.0, None)
    differing = corrected_for_looks(pooled.p_equal)
    if max(differing, *both) < ERROR:
        return HETEROGENEOUS, max(differing, *both), pooled
    above = 1.0 if all(case.margin > 0 for case in cases) else -1.0  # the claim's threshold, in units of δ
    gaps = {SUPPORTED: pooled.mean - above, OPPOSITE: -1.0 - pooled.mean}
    if above > 0:
        gaps[NEGLIGIBLE] = 1.0 - abs(pooled.mean)
    for standing, gap in gaps.items():
        p = corrected_for_looks(min(1.0, 2 * float(stats.t.sf(gap / pooled.error, pooled.k - 1))))
        if p < ERROR:
            return standing, p, pooled
    return UNDECIDED, 1.0, pooled


def _pooled(cases: Sequence[Case]) -> Pooled | None:
    """Random effects over conditions in units of δ; None with fewer than two clusters, or claims of different kinds.

    That nothing worse than δ happens is a claim about the worst of the conditions that were measured on the same runs.
    """
    kinds = {(case.margin > 0) - (case.margin < 0) for case in cases}
    if len(kinds) != 1 or kinds == {0}:
        return None
    clusters: dict[Hashable, list[tuple[float, float]]] = {}
    for k, case in enumerate(cases):
        if math.isnan(case.effect.low):
            continue
        mean, error = case.towards[0] / case.unit, case.error / case.unit
        mean = min(max(mean, -FARTHEST), FARTHEST)
        error = FARTHEST / 2 if math.isnan(error) else max(error, LEAST_ERROR)
        clusters.setdefault(("", k) if case.cluster is None else case.cluster, []).append((mean, error))
    if len(clusters) < 2:
        return None
    if kinds == {-1}:
        clusters = {key: [min(pairs)] for key, pairs in clusters.items()}
    votes = [(*pair, 1 / len(pairs)) for pairs in clusters.values() for pair in pairs]
    means, errors, shares = zip(*votes, strict=True)
    return pool(means, errors, shares)


def corrected(verdicts: Sequence[tuple[str, float]]) -> list[str]:
    """Verdicts that survive Benjamini and Hochberg's procedure (1995) over all claims; others are `undecided`.

    Args:
        verdicts: verdict and p value of every claim; those that are undecided count as tests that failed.
    """
    if not verdicts:
        return []
    adjusted = stats.false_discovery_control([p for _, p in verdicts])
    return [verdict if found <= ERROR else UNDECIDED for (verdict, _), found in zip(verdicts, adjusted, strict=True)]


def surviving(p_values: Sequence[float]) -> float:
    """The p value that one more claim would need to survive that procedure beside those that do."""
    if not p_values:
        return ERROR
    kept = int((stats.false_discovery_control(p_values) <= ERROR).sum())
    return ERROR * min(kept + 1, len(p_values)) / len(p_values)


def listing(cases: Iterable[Case]) -> str:
    """Which conditions have which standing."""
    cases = list(cases)
    by_standing: dict[str, list[str]] = {standing: [] for standing in (*DECIDED, UNDECIDED)}
    for case in cases:
        by_standing.setdefault(case.standing, []).append(case.condition)
    return "; ".join(f"{standing}: {', '.join(names)}" for standing, names in by_standing.items() if names)


def counted(cases: Sequence[Case]) -> str:
    """How many conditions have which standing, and between which effects they lie: for claims with many cases.

    Effects in nats are none of the ends where there are others.
    """
    counts = Counter(case.standing for case in cases)
    order = [*(s for s in (*DECIDED, UNDECIDED) if counts[s]), *(s for s in counts if s not in (*DECIDED, UNDECIDED))]
    says = f"Of {len(cases)} conditions: {', '.join(f'{counts[standing]} {standing}' for standing in order)}."
    alike = sorted((c for c in cases if "(nats)" not in c.condition), key=lambda c: c.effect.mean) or [*cases]
    ends = [(case.effect, case.condition) for case in (alike[-1], alike[0])]
    words = [f"{e.mean:+.3f} [{e.low:+.3f}, {e.high:+.3f}] ({condition})" for e, condition in ends]
    return f"{says} Largest effect {words[0]}; smallest {words[1]}." if len(cases) > 1 else f"{says} Effect {words[0]}."
