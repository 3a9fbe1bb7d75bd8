"""What the measurements of raggedness advise, in sentences."""

from __future__ import annotations

import pandas as pd

from rnnnorm.studies.framework.measurements import per_seed, where
from rnnnorm.studies.measures.ragged_scores import (
    BASE,
    FRAMED,
    LENGTHS,
    OWN,
    RAGGED,
    WITHOUT,
    cures,
    home,
    in_region,
    lag_and_noise,
    minus,
    places,
    score,
    spoken,
)


def findings(m: pd.DataFrame) -> list[str]:
    """What happens, what causes it, what cures it, what padding does."""
    data, said = home(m), []
    framed = [score(m, BASE, mode, data=FRAMED) for mode in ("running", "population", "batch")]
    if all(len(series) for series in framed):
        lag, noise = lag_and_noise(m, FRAMED)
        free = score(m, BASE, data=RAGGED)
        running, exact, own = (series.mean() for series in framed)
        said.append(
            f"Where all sequences begin with the same symbol, {BASE} scores {running:.3f} by running averages, "
            f"{exact:.3f} by population statistics and {own:.3f} by each batch's own; with a random first and last "
            f"symbol, running averages score {free.mean():.3f}. With the constant symbol, lag behind the weights costs "
            f"{lag.mean():.3f}, noise {noise.mean():.3f}."
        )
    late = {mode: score(m, BASE, mode, "late", data=data) for mode in ("running", "population", "batch")}
    plain = score(m, WITHOUT, "running", "late", data=data)
    if all(len(series) for series in late.values()) and len(plain):
        start = per_seed(m, quantity="late_start", data=data).mean()
        said.append(
            f"At late steps (t ≥ {start:.0f}, {spoken(data)}) it scores {late['running'].mean():.3f} / "
            f"{late['population'].mean():.3f} / {late['batch'].mean():.3f} by running, population and own statistics; "
            f"the network without normalization {plain.mean():.3f}."
        )
    said += _causes(m, data)
    said += _padding(m, data)
    said += _real(m)
    said += _advice(m, data)
    diverged = where(m, quantity="diverged", value=1.0)
    if len(diverged):
        said.append(f"{len(diverged)} runs diverged and have no scores: {', '.join(sorted(set(diverged['norm'])))}.")
    return said


def _padding(m: pd.DataFrame, data: str) -> list[str]:
    """What padding in the statistics does at late steps, and overall."""
    region = "late" if len(score(m, BASE, region="late", data=data)) else "all"
    batches = "mixed" if len(score(m, BASE, data=data, batches="mixed")) else "similar"
    own = score(m, BASE, "running", region, data=data, batches=batches)
    parts = []
    for padding in ("frozen", "running"):
        counting = score(m, BASE, "running", region, data=data, batches=batches, padding=padding)
        effect = minus(counting, own)
        if effect.n:
            harm = "harms" if effect.high < 0 else "helps" if effect.low > 0 else "is not beyond the seeds' spread"
            parts.append(
                f"with finished sequences {padding} it {harm}: {own.mean():.3f} without, {counting.mean():.3f} with it "
                f"({effect.mean:+.3f} [{effect.low:+.3f}, {effect.high:+.3f}])"
            )
    if not parts:
        return []
    place = f"{in_region(region)} of {spoken(data, batches)}, running averages"
    return [f"Padding counted in the statistics of {BASE} ({place}): {'; '.join(parts)}."]


def _causes(m: pd.DataFrame, data: str) -> list[str]:
    """Lag and noise at late steps, by kind of batches."""
    parts = []
    for batches, name in (("similar", "batches of similar length"), ("mixed", "mixed batches")):
        lag, noise = lag_and_noise(m, data, batches, "late")
        rows = where(m, data=data, batches=batches, padding="no")
        start = per_seed(rows, quantity="late_start")
        late = rows[(rows["quantity"] == "active") & (rows["t"] >= start.mean())]["value"] if len(start) else start
        visits = rows[(rows["quantity"] == "visits") & (rows["t"] >= start.mean())]["value"] if len(start) else start
        if len(lag) and len(late):
            parts.append(
                f"in {name} a late step has {late.mean():.0f} rows and comes in {visits.mean():.0%} of the batches: "
                f"lag costs {lag.mean():.3f}, noise {noise.mean():.3f}"
            )
    return [f"Why late running averages fail: {'; '.join(parts)}."] if parts else []


def _real(m: pd.DataFrame) -> list[str]:
    """Late scores on each set of real data."""
    parts = []
    for data, batches in places(m):
        if data in (RAGGED, FRAMED, OWN, *LENGTHS):
            continue
        place = {"data": data, "batches": batches, "region": "late"}
        plain, usual = score(m, WITHOUT, **place), score(m, BASE, **place)
        tried = {"population statistics": score(m, BASE, "population", **place)}
        tried |= {norm.removeprefix(BASE + ":"): score(m, norm, **place) for norm in cures(m, data, batches)}
        tried["padding counted"] = score(m, BASE, **{**place, "padding": "frozen"})
        tried = {name: series for name, series in tried.items() if len(series)}
        if tried and len(plain) and len(usual):
            best = max(tried, key=lambda name: tried[name].mean())
            parts.append(
                f"{spoken(data, batches)} {usual.mean():.3f} (without normalization {plain.mean():.3f}; at best, with "
                f"{best}, {tried[best].mean():.3f})"
            )
    return [f"Late scores of {BASE} on real data: {'; '.join(parts)}."] if parts else []


def _advice(m: pd.DataFrame, data: str) -> list[str]:
    """The cure with the best late score (overall, where there is no late step), in comparison to the default.

    Counted padding is none: what it does is said by itself, and real data do not confirm that it helps.
    """
    region = "late" if len(score(m, BASE, region="late", data=data)) else "all"
    usual, own = (score(m, BASE, mode, region, data=data) for mode in ("running", "batch"))
    if not len(usual):
        return []
    tried = {"recalibration": score(m, BASE, "population", region, data=data)}
    tried |= {f"`{norm}`": score(m, norm, "running", region, data=data) for norm in cures(m, data)}
    effects = {name: minus(series, usual) for name, series in tried.items()}
    effects = {name: effect for name, effect in effects.items() if effect.n}
    if not effects:
        return []
    name = max(effects, key=lambda key: effects[key].mean)
    best, better = effects[name], {key for key, effect in effects.items() if effect.low > 0}
    verb = "Advice: use" if best.low > 0 else "No cure is beyond doubt; the best on average is"
    rest = usual.mean() + best.mean - own.mean()
    text = (
        f"{verb} {name}: {best.mean:+.3f} [{best.low:+.3f}, {best.high:+.3f}] over the default's running averages, "
        f"{in_region(region)} of {spoken(data)}, and {rest:+.3f} against each batch's own statistics"
    )
    others = sorted(better - {name})
    text += f". Also helpful: {'; '.join(others)}." if others else "; nothing else helps beyond the seeds' spread."
    free = {norm: score(m, norm, "running", region, data=data) for norm in (WITHOUT, "ln")}
    known = [f"{norm} {series.mean():.3f}" for norm, series in free.items() if len(series)]
    return [text + (f" Without statistics of batches the same steps score: {', '.join(known)}." if known else "")]
