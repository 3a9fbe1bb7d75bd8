"""Small drawings of effects with their intervals, beside the numbers of a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from rnnnorm.common.estimate import Estimate
from rnnnorm.studies.framework.case import Case

WIDTH, EDGE = 200, 8
FAR = 20.0
"""Where the axis in units of δ ends."""


def strip(cases: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """For each case a drawing of its effect and interval, all on one scale, with what the claim needs.

    Where an effect of a certain size is claimed, a grey field marks the effects that are too small to be of interest.

    Args:
        cases: conditions of a verdict, as in `verdict.json`.
    """
    limits = [_limits(case) for case in cases]
    ends = [[v for v in (case["effect"], *case["interval"]) if _finite(v)] for case in cases]
    every = [v for values in (*ends, *limits) for v in values] or [0.0]
    low = float(min(every))
    span = float(max(every)) - low or 1.0

    def x(value: float) -> float:
        """Place of a value on the axis that all share."""
        return EDGE + (WIDTH - 2 * EDGE) * (value - low) / span

    drawn = []
    for case, limit, values in zip(cases, limits, ends, strict=True):
        parts = [_field(x(limit[0]), x(limit[1])) if len(limit) > 1 else "", *(_limit(x(value)) for value in limit)]
        if values:
            parts.append(_line(x(min(values)), x(max(values)), "range"))
        if _finite(case["effect"]):
            parts.append(f'<circle cx="{x(case["effect"]):.1f}" cy="9" r="4"/>')
        drawn.append(_svg(parts, f"strip {case['standing']}"))
    return drawn


def in_units(verdict: Mapping[str, Any]) -> Markup:
    """From the conditions of a claim to the claim: all effects in units of δ, towards the claim to the right.

    Open circles are conditions in scope; the filled one is the pooled effect with its interval, the thin line the
    interval in which the effect of a further condition lies. The axis is asinh(x), the grey field ±δ.

    Args:
        verdict: as in `verdict.json`.
    """
    cases = [case for case in verdict["conditions"] if case.get("in_scope", True)]
    effects = [value for case in cases if (value := _in_units(case, case["effect"])) is not None]
    parts = [_field(_scaled(-1), _scaled(1)), _limit(_scaled(0))]
    parts += [f'<circle cx="{_scaled(value):.1f}" cy="9" r="2.5" class="one"/>' for value in effects]
    pooled = verdict.get("pooled")
    if pooled:
        if pooled["prediction"]:
            parts.append(_line(_scaled(pooled["prediction"][0]), _scaled(pooled["prediction"][1]), "thin"))
        parts.append(_line(_scaled(pooled["low"]), _scaled(pooled["high"]), "range"))
        parts.append(f'<circle cx="{_scaled(pooled["mean"]):.1f}" cy="9" r="4"/>')
    elif len(cases) == 1 and effects:
        ends = [_in_units(cases[0], value) for value in cases[0]["interval"]]
        known = [end for end in ends if end is not None]
        parts += [_line(_scaled(min(known)), _scaled(max(known)), "range")] if known else []
        parts.append(f'<circle cx="{_scaled(effects[0]):.1f}" cy="9" r="4"/>')
    return _svg(parts, f"strip {verdict['verdict']}")


def _declared(case: Mapping[str, Any]) -> Case:
    """What a condition of `verdict.json` claims, without its effect."""
    side, needed = str(case["needed"]).split()
    nothing = Estimate(math.nan, math.nan, math.nan, 0)
    return Case("", nothing, float(needed), side == "<", float(case.get("null", 0.0)))


def _limits(case: Mapping[str, Any]) -> list[float]:
    """Ends of the effects that are too small, or the threshold alone."""
    claim = _declared(case)
    both = sorted((claim.needed, 2 * claim.null - claim.needed)) if claim.margin > 0 else [claim.needed]
    return [value for value in both if _finite(value)]


def _in_units(case: Mapping[str, Any], value: float | None) -> float | None:
    """A value of a case in units of its δ, positive towards the claim; None if there is none."""
    if value is None or math.isnan(value):
        return None
    claim = _declared(case)
    return claim.sign * (value - claim.null) / claim.unit


def _scaled(value: float) -> float:
    """Place of a value in units of δ."""
    shown = math.asinh(min(max(value, -FAR), FAR)) / math.asinh(FAR)
    return EDGE + (WIDTH - 2 * EDGE) * (shown + 1) / 2


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _field(start: float, end: float) -> str:
    return f'<rect x="{start:.1f}" width="{end - start:.1f}" y="0" height="18" class="small"/>'


def _limit(at: float) -> str:
    return f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="18" class="limit"/>'


def _line(start: float, end: float, kind: str) -> str:
    return f'<line x1="{start:.1f}" x2="{end:.1f}" y1="9" y2="9" class="{kind}"/>'


def _svg(parts: Iterable[str], classes: str) -> Markup:
    return Markup(f'<svg class="{classes}" viewBox="0 0 {WIDTH} 18" aria-hidden="true">{"".join(parts)}</svg>')
