"""Tables over data sets: scores by norm and data set, and aggregates."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

from rnnnorm.common.estimate import Estimate
from rnnnorm.report.grid import Grid
from rnnnorm.report.numbers import signed
from rnnnorm.report.several.aggregate import Aggregate
from rnnnorm.report.several.folders import DataSet, Several
from rnnnorm.report.several.notes import DIGITS, aggregate_notes, score_notes
from rnnnorm.report.several.ranks import Ranks
from rnnnorm.report.several.relative import loss_ratio

COLUMNS = ("norm", "data sets", "runs", "relative improvement", "95 % over seeds", "95 %, all norms", "loss ratio",
           "P(better)", "95 %", "average rank")  # fmt: skip


def scores_grid(several: Several) -> Grid:
    """Norm × data set: mean ± standard deviation over seeds, and whether it can be told apart from the baseline.

    In bold is the best norm of a data set, if it is shown to be better than the baseline.
    """
    norms = several.norms
    head = ["norm", *(f"{one.label} ({direction(one)})" for one in several.sets)]
    rows = [[norm, *(_score(one, norm) for one in several.sets)] for norm in norms]
    strong = {(norms.index(best), j) for j, one in enumerate(several.sets, 1) if (best := _best(one))}
    return Grid(head, rows, frozenset(strong), score_notes(several))


def direction(one: DataSet) -> str:
    """The metric of a data set, with an arrow to where it is better: `accuracy ↑`."""
    if not one.summary.metric:
        return "no score yet"
    return f"{one.summary.metric} {'↑' if one.summary.larger_is_better else '↓'}"


def scores_csv(several: Several) -> str:
    """One line per data set and norm: score, numbers of runs, difference from the baseline with its p value."""
    rows = []
    for one in several.sets:
        better = "larger" if one.summary.larger_is_better else "smaller"
        for norm, row in one.rows.items():
            found = one.differences.get(norm)
            score = [row.headline.mean, row.headline.std]
            counts = [row.counts["diverged"], row.counts["cut"], row.counts["unfinished"] + row.counts["unreadable"]]
            against: list[object] = [several.baseline if one.compared else ""]
            if found is not None:
                against += [found.seedwise.mean, *_ends(found.simultaneous), found.p_holm]
            else:
                against += [math.nan] * 4
            head = [one.label, one.data, norm, one.summary.metric, better, row.headline_mode]
            rows.append([*head, len(row.headline.values), *score, *counts, *against])
    titles = ("data_set", "data", "norm", "metric", "better", "ranked_by", "n", "mean", "std", "diverged", "cut",
              "open", "baseline", "difference", "simultaneous_low", "simultaneous_high", "p_holm")  # fmt: skip
    return _csv(titles, rows)


def aggregates_grid(several: Several, found: Sequence[Aggregate], ranks: Ranks, skipped: Sequence[str]) -> Grid:
    """Norms against the baseline over all data sets, best first; columns without any number are left out."""
    rows = [_aggregate(one, ranks) for one in found]
    if several.baseline in ranks.means:
        rest = ["–"] * (len(COLUMNS) - 2)
        rows.append([several.baseline, *rest, f"{ranks.means[several.baseline]:.2f}"])
    used = [k for k in range(len(COLUMNS)) if k < 1 or any(row[k] != "–" for row in rows)]
    strong = frozenset((i, used.index(3)) for i, one in enumerate(found) if one.differs and 3 in used)
    notes = aggregate_notes(several, found, ranks, skipped)
    return Grid([COLUMNS[k] for k in used], [[row[k] for k in used] for row in rows], strong, notes)


def aggregates_csv(several: Several, found: Sequence[Aggregate], ranks: Ranks) -> str:
    """One line per norm: interquartile mean, probability of improvement, intervals, average rank."""
    titles = ("norm", "baseline", "data_sets", "runs", "iqm", "iqm_low", "iqm_high", "simultaneous_low",
              "simultaneous_high", "loss_ratio", "compared_sets", "improvement", "improvement_low", "improvement_high",
              "average_rank")  # fmt: skip
    rows: list[list[object]] = [
        [
            one.norm, several.baseline, len(one.values), one.runs, one.iqm.mean, *_ends(one.iqm),
            *_ends(one.simultaneous), loss_ratio(one.iqm.mean), one.improvement.n, one.improvement.mean,
            *_ends(one.improvement), ranks.means.get(one.norm, math.nan),
        ]
        for one in found
    ]  # fmt: skip
    base = ranks.means.get(several.baseline)
    if base is not None:
        rows.append([several.baseline, several.baseline, *[""] * (len(titles) - 3), base])
    return _csv(titles, rows)


def profile_csv(found: Sequence[Aggregate], thresholds: Iterable[float]) -> str:
    """Performance profiles: threshold, norm, share of runs and its band."""
    rows = [
        [norm.norm, round(float(tau), 6), *map(float, norm.profile[:, k])]
        for norm in found
        if norm.values
        for k, tau in enumerate(thresholds)
    ]
    return _csv(("norm", "threshold", "share", "low", "high"), rows)


def _score(one: DataSet, norm: str) -> str:
    row = one.rows.get(norm)
    if row is None:
        return "–"
    if not row.headline.values:
        return row.outcome
    found = one.differences.get(norm)
    mark = "" if found is None or not found.differs else "⁺" if found.seedwise.mean > 0 else "⁻"
    lost = [
        f"{row.counts[kind]} {kind}" for kind in ("diverged", "cut", "unfinished", "unreadable") if row.counts[kind]
    ]
    return f"{row.headline}{mark}" + (f" ({', '.join(lost)} of {len(row.runs)})" if lost else "")


def _best(one: DataSet) -> str:
    """The best norm of a data set if it is shown to be better than the baseline."""
    ranked = one.summary.ranked
    found = one.differences.get(ranked[0].norm) if ranked else None
    return ranked[0].norm if found is not None and found.differs and found.seedwise.mean > 0 else ""


def _aggregate(one: Aggregate, ranks: Ranks) -> list[str]:
    chance, rank = one.improvement, ranks.means.get(one.norm)
    known = math.isfinite(one.iqm.mean)
    return [
        one.norm,
        str(max(len(one.values), chance.n)),
        str(one.runs) if known else "–",
        signed(one.iqm.mean, DIGITS) if known else "–",
        interval(one.iqm),
        interval(one.simultaneous),
        f"× {loss_ratio(one.iqm.mean):.2f}" if known else "–",
        f"{chance.mean:.2f}",
        "–" if math.isnan(chance.low) else f"{chance.low:.2f} to {chance.high:.2f}",
        "–" if rank is None else f"{rank:.2f}",
    ]


def interval(found: Estimate) -> str:
    """An interval of relative improvements; `–` if there is none."""
    return "–" if math.isnan(found.low) else f"{signed(found.low, DIGITS)} to {signed(found.high, DIGITS)}"


def _ends(found: Estimate) -> tuple[float, float]:
    return found.low, found.high


def _csv(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(titles)
    for row in rows:
        writer.writerow(["" if isinstance(x, float) and not math.isfinite(x) else x for x in row])
    return text.getvalue()
