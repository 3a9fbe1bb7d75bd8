"""From measured effects to a verdict on a claim: supported, contradicted, or it depends, and on what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rnnnorm.studies.framework.case import FAILS, HOLDS, OPEN, Case
from rnnnorm.studies.framework.claim import Claim

SUPPORTED, CONTRADICTED, DEPENDS = "supported", "contradicted", "depends"


@dataclass(frozen=True)
class Verdict:
    """What the measurements say about a claim.

    Args:
        claim: the claim.
        verdict: `supported` where it holds in every case, `contradicted` where it fails in every case, else `depends`.
        unit: of the effects: `accuracy points`, `nats`, `factor per step`, …
        cases: every effect, the one of the headline first.
        says: one or two sentences made from the numbers.
    """

    claim: Claim
    verdict: str
    unit: str
    cases: tuple[Case, ...]
    says: str = ""

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
                }
                for case in self.cases
            ],
        }


def judge(claim: Claim, unit: str, cases: Sequence[Case], says: str = "", headline: int = 0) -> Verdict:
    """The verdict on a claim from the effects measured under its conditions.

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
    standings = {case.standing for case in measured}
    verdict = DEPENDS
    if standings == {HOLDS}:
        verdict = SUPPORTED
    elif standings == {FAILS}:
        verdict = CONTRADICTED
    return Verdict(claim, verdict, unit, tuple(measured or ordered), says or listing(measured))


def listing(cases: Iterable[Case]) -> str:
    """Where the claim holds, where it fails, and where the seeds do not decide."""
    words = {HOLDS: "holds for", FAILS: "fails for", OPEN: "undecided for"}
    parts = []
    cases = list(cases)
    for standing, text in words.items():
        names = [case.condition for case in cases if case.standing == standing]
        if names:
            parts.append(f"{text} {', '.join(names)}")
    return "; ".join(parts)


def counted(cases: Sequence[Case]) -> str:
    """In how many conditions the claim holds and fails, and between which effects: for claims with many cases.

    Effects in nats are none of the ends where there are others.
    """
    counts = Counter(case.standing for case in cases)
    rest = len(cases) - counts[HOLDS] - counts[FAILS]
    says = f"Of {len(cases)} conditions it holds in {counts[HOLDS]} and fails in {counts[FAILS]}; open: {rest}."
    alike = sorted((c for c in cases if "(nats)" not in c.condition), key=lambda c: c.effect.mean) or [*cases]
    ends = [(case.effect, case.condition) for case in (alike[-1], alike[0])]
    words = [f"{e.mean:+.3f} [{e.low:+.3f}, {e.high:+.3f}] ({condition})" for e, condition in ends]
    return f"{says} Largest effect {words[0]}; smallest {words[1]}." if len(cases) > 1 else f"{says} Effect {words[0]}."
