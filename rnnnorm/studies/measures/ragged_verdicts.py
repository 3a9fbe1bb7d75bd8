"""What the measurements of raggedness say: a verdict per claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pandas as pd

from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.verdict import FAILS, HOLDS, Case, Verdict, judge
from rnnnorm.studies.measures.ragged_claims import CLAIMS
from rnnnorm.studies.measures.ragged_scores import (
    BASE,
    FRAMED,
    NATS_NOTE,
    OVERALL,
    RAGGED,
    WITHOUT,
    by_mode,
    cures,
    gap,
    home,
    in_region,
    lag_and_noise,
    least,
    minus,
    places,
    score,
    spoken,
)


def verdicts(m: pd.DataFrame) -> list[Verdict]:
    """The verdict on each claim for which there is a case."""
    makers = {
        "padding": _padding, "survivors": _survivors, "gap": _gap, "running": _running, "constant": _constant,
        "lag": _lag, "rows": _rows, "tail": _tail, "cure": _cure,
    }  # fmt: skip
    result = []
    for claim in CLAIMS:
        cases = [case for case in makers[claim.key](m) if case.effect.n > 0]
        if cases:
            unit = "difference of scores" if claim.key != "gap" else "difference of gaps"
            result.append(judge(claim, unit, cases, _says(cases)))
    return result


def _says(cases: list[Case]) -> str:
    """In how many conditions the claim holds and fails, and between which effects."""
    counts = Counter(case.standing for case in cases)
    rest = len(cases) - counts[HOLDS] - counts[FAILS]
    says = f"Of {len(cases)} conditions it holds in {counts[HOLDS]} and fails in {counts[FAILS]}; open: {rest}."
    alike = [case for case in cases if NATS_NOTE not in case.condition] or cases
    ends = [pick(alike, key=lambda case: case.effect.mean) for pick in (max, min)]
    effects = [f"{e.mean:+.3f} [{e.low:+.3f}, {e.high:+.3f}]" for e in (case.effect for case in ends)]
    words = [f"{effect} ({case.condition})" for effect, case in zip(effects, ends, strict=True)]
    return f"{says} Largest effect {words[0]}; smallest {words[1]}." if len(cases) > 1 else f"{says} Effect {words[0]}."


def _padding(m: pd.DataFrame) -> Iterator[Case]:
    """What the scores lose when statistics count padding."""
    counted = m[m["padding"] != "no"] if "padding" in m else m.iloc[:0]
    keys = ("data", "norm", "padding", "batches")
    for data, norm, padding, batches in dict.fromkeys(zip(*(counted.get(key, ()) for key in keys), strict=True)):
        for region, mode in (("late", "running"), ("all", "running"), ("late", "population"), ("all", "population")):
            own = score(m, norm, mode, region, data=data, batches=batches)
            counting = score(m, norm, mode, region, data=data, batches=batches, padding=padding)
            name = (
                f"{spoken(data, batches)}, {norm}, finished sequences {padding}, {by_mode(mode)}, {in_region(region)}"
            )
            yield Case(name, minus(own, counting), least(data, region))


def _survivors(m: pd.DataFrame) -> Iterator[Case]:
    for data, batches in places(m):
        for mode in ("running", "population", "batch"):
            plain = score(m, WITHOUT, mode, "late", data=data, batches=batches)
            normalized = score(m, BASE, mode, "late", data=data, batches=batches)
            yield Case(f"{spoken(data, batches)}, {by_mode(mode)}", minus(plain, normalized), least(data, "late"))


def _gap(m: pd.DataFrame) -> Iterator[Case]:
    known = dict.fromkeys(where(m, quantity="gap", data="uniform").get("norm", ()))
    pairs = (
        (RAGGED, "fixed", "all"),
        (RAGGED, "uniform", "all"),
        (RAGGED, "uniform", "late"),
        ("uniform", "fixed", "all"),
    )
    for more, less, region in pairs:
        for norm in sorted(known, key=lambda name: name != BASE):
            effect = minus(gap(m, norm, more, region), gap(m, norm, less, region))
            yield Case(f"{norm}, {more} against {less}, {in_region(region)}", effect, least(more, region))


def _running(m: pd.DataFrame) -> Iterator[Case]:
    for data, batches in sorted(places(m), key=lambda place: place[0] != FRAMED):
        exact = score(m, BASE, "population", data=data, batches=batches)
        averages = score(m, BASE, data=data, batches=batches)
        yield Case(spoken(data, batches), minus(exact, averages), least(data, "all"))


def _constant(m: pd.DataFrame) -> Iterator[Case]:
    for norm in dict.fromkeys(where(m, data=FRAMED).get("norm", ())):
        for mode in ("running", "population") if norm == BASE else ("running",):
            free, framed = (score(m, norm, mode, data=data) for data in (RAGGED, FRAMED))
            yield Case(f"{norm}, {by_mode(mode)}", minus(free, framed), OVERALL)


def _lag(m: pd.DataFrame) -> Iterator[Case]:
    """Lag minus noise, wherever running averages do fail: population statistics are better by what counts."""
    for data, batches in sorted(places(m), key=lambda place: place[0] != FRAMED):
        for region in ("all", "late"):
            lag, noise = lag_and_noise(m, data, batches, region)
            if (lag + noise).mean() > least(data, region):
                name = f"{spoken(data, batches)}, {in_region(region)}, lag minus noise"
                yield Case(name, minus(lag, noise), least(data, region))


def _late_cure(m: pd.DataFrame, option: str) -> Iterator[Case]:
    """What a variant of the base with some option wins at late steps."""
    for data, batches in places(m):
        for norm in cures(m, data, batches):
            if norm.startswith(BASE) and option in norm:
                cured, usual = (score(m, n, "running", "late", data=data, batches=batches) for n in (norm, BASE))
                yield Case(spoken(data, batches), minus(cured, usual), least(data, "late"))


def _rows(m: pd.DataFrame) -> Iterator[Case]:
    yield from _late_cure(m, ":min_rows=8")


def _tail(m: pd.DataFrame) -> Iterator[Case]:
    yield from _late_cure(m, "tail=pool")


def _cure(m: pd.DataFrame) -> Iterator[Case]:
    for data, region in ((home(m), "late"), (home(m), "all"), (FRAMED, "all")):
        exact = score(m, BASE, "population", region, data=data)
        for norm in cures(m, data):
            name = f"{spoken(data)}, {in_region(region)}: recalibration against {norm.removeprefix(BASE + ':')}"
            yield Case(name, minus(exact, score(m, norm, "running", region, data=data)), least(data, region))
