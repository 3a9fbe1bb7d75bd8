"""Tables computed from the measurements of raggedness: what lag and noise cost, what was tried, curves by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd

from rnnnorm.common.estimate import estimate
from rnnnorm.studies.data.ragged_arms import BASE, FRAMED, OWN, RAGGED
from rnnnorm.studies.framework.measurements import difference, per_seed, where
from rnnnorm.studies.framework.selection import Point, beginning, occurring, signed

MODES = ("running", "population", "batch")
RECALIBRATION = "recalibration"
PLACE = ["data", "batches", "region"]
PLAIN = {"batches": "similar"}
cures = beginning(f"{BASE}:", "bn-window", "brn")  # variants of the base


def tables(m: pd.DataFrame, least: Callable[[Point], float]) -> Iterator[pd.DataFrame]:
    """All that was measured, and the tables of the functions below.

    Args:
        m: measurements.
        least: the smallest effect that counts at a point.
    """
    yield m[m["quantity"] != "score"]
    yield from scores(m)
    yield lag_and_noise(m, least)
    yield by_lengths(m)
    yield from by_step(m)


def scores(m: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """`score` with a column `way`: the norm, an option of the base, or recalibration; and `tried`, made of it.

    `tried` is the score by running averages of all norms, the base's also with mixed batches and by population
    statistics.
    """
    rows = where(m, quantity="score").dropna(subset=["region"])
    base, mode = rows["norm"] == BASE, rows["mode"]
    ways = rows["norm"].str.removeprefix(f"{BASE}:").mask(base & (mode == "population"), RECALIBRATION)
    yield rows.assign(way=ways)
    plain = rows["batches"] == "similar"
    taken = ((mode == "running") & (plain | base)) | (plain & (ways == RECALIBRATION))
    yield rows.assign(quantity="tried", way=ways)[taken]


def lag_and_noise(m: pd.DataFrame, least: Callable[[Point], float]) -> pd.DataFrame:
    """The base's score by mode, each a quantity, and how much of what running averages lack is `lag`, how much `noise`.

    `lag` is what resting weights win for running averages, `noise` what these then lack to population statistics;
    `lag_minus_noise` is only there where both together cost more than the smallest effect that counts.

    Args:
        m: measurements.
        least: the smallest effect that counts at a point.
    """
    rows = where(m, quantity="score", norm=BASE)
    wide = rows.pivot_table(index=[*PLACE, "seed"], columns="mode", values="value", sort=False)
    wide = wide.reindex(columns=[*MODES, "at rest"])
    lag, noise = wide["at rest"] - wide["running"], wide["population"] - wide["at rest"]
    needed = [least(dict(zip(wide.index.names, point, strict=True))) for point in wide.index]
    fails = (lag + noise).groupby(PLACE).transform("mean") > needed
    wide = wide.assign(lag=lag, noise=noise, lag_minus_noise=(lag - noise).where(fails))
    return wide.reset_index().melt([*PLACE, "seed"], var_name="quantity")


def by_lengths(m: pd.DataFrame) -> pd.DataFrame:
    """`gap_by_lengths`: the gap of norms that were trained on several distributions of lengths, or on own data."""
    gaps = where(m, quantity="gap")
    known = where(gaps, data=["uniform", OWN])["norm"]
    return gaps.assign(quantity="gap_by_lengths")[gaps["norm"].isin(known)]


def by_step(m: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """`late_active`, `late_visits`: rows and share of batches at late steps; `score_by_step`; `moments_off_by`."""
    place = PLACE[:2]
    start = where(m, quantity="late_start").groupby(place)["value"].mean().rename("start")
    steps = where(m, quantity=["active", "visits", "bucket"]).join(start, on=place)
    late = steps[(steps["quantity"] != "bucket") & (steps["t"] >= steps["start"])]
    yield late.assign(quantity="late_" + late["quantity"])
    scored = where(steps, quantity="bucket", norm=["none", "ln", BASE], batches="similar", mode=MODES)
    scored = scored[(scored["norm"] == BASE) | (scored["mode"] == "running")]
    how = (", " + scored["mode"].astype(str) + " statistics").where(scored["norm"] == BASE, "")
    yield scored.assign(quantity="score_by_step", t=(scored["t"] + scored["last"]) / 2, how=how)
    off = where(m, quantity="off_by", norm=BASE, data=[RAGGED, "fixed", FRAMED, OWN])
    off = off[(off["mode"] == "running") | ((off["batches"] == "similar") & off["data"].isin([RAGGED, OWN]))]
    what = off["data"].replace({FRAMED: "constant start", OWN: "your data"})
    what += off["batches"].map({"mixed": ", mixed"}).fillna("") + ", " + off["mode"]
    yield off.assign(quantity="moments_off_by", what=what)


def best_cure(tried: pd.DataFrame) -> Iterator[str]:
    """In two sentences, which cure gains most over the base's running averages, what else helps.

    Args:
        tried: the scores that count, by `way` and `norm`.
    """
    usual, norms = per_seed(tried, way=BASE), cures(occurring(tried, "norm"))
    found = {RECALIBRATION: per_seed(tried, way=RECALIBRATION)}
    found |= {f"`{norm}`": per_seed(tried, norm=norm) for norm in norms}
    effects = {name: estimate(difference(values, usual)) for name, values in found.items()}
    effects = {name: effect for name, effect in effects.items() if effect.n}
    if not effects:
        return
    name = max(effects, key=lambda key: effects[key].mean)
    best, others = effects[name], [key for key, effect in effects.items() if effect.low > 0 and key != name]
    verb = f"For {BASE} use" if best.low > 0 else f"No cure of {BASE} is beyond doubt; the best on average is"
    helpful = f"Also helpful: {'; '.join(others)}." if others else "Nothing else helps beyond the seeds' spread."
    spread = signed(f"{best.mean:+.3f} [{best.low:+.3f}, {best.high:+.3f}]")
    yield f"{verb} {name}: {spread} over the default's running averages. {helpful}"
