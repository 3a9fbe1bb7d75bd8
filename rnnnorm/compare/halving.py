"""Choice: which trials are needed next, and which one is best, from the trials that have been run.

All of it is a pure function of the search and of the trials' scores, so that a search which is interrupted, continued,
extended, or run by several jobs ends with the same choice. (Optuna's pruners decide when a trial reports, so that the
order in which trials end matters.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rnnnorm.compare.search import ENDS, Dimension, Point, Search, Widening


@dataclass(frozen=True)
class Record:
    """What is known of a trial.

    Args:
        epochs: completed ones.
        scores: validation scores, each with the epoch in which it was measured, counted from 1.
        ended: whether there is nothing left to train.
        diverged: epoch in which it diverged; None while all is well.
    """

    epochs: int = 0
    scores: tuple[tuple[int, float], ...] = ()
    ended: bool = False
    diverged: int | None = None

    def reached(self, rung: int) -> bool:
        """Whether it has been trained for so many epochs, or cannot be trained that far."""
        return self.ended or self.epochs >= rung

    def score(self, rung: int, larger: bool) -> float:
        """Best validation score of the first `rung` epochs; the worst there is if it had diverged by then."""
        found = [score for epoch, score in self.scores if epoch <= rung]
        if not found or (self.diverged is not None and self.diverged <= rung):
            return -math.inf if larger else math.inf
        return max(found) if larger else min(found)

    def mean(self, rung: int) -> float:
        """Mean validation score of the first `rung` epochs: which of two came sooner to the same best score."""
        found = [score for epoch, score in self.scores if epoch <= rung]
        return math.fsum(found) / len(found) if found else math.nan


Key = tuple[str, int, str]
"""A trial: norm, round, name of its point."""
NOTHING = Record()
END = 2**31
"""Rung of trials that are trained to their end, whenever that is."""


@dataclass(frozen=True)
class Choice:
    """The best trial of a norm in a round.

    Args:
        point: its values; None if all trials diverged.
        edges: key → "low" or "high", where its value is at an end of what was tried, with the score still rising.
    """

    point: Point | None
    edges: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Plan:
    """What is to be done next.

    Args:
        needs: trials to run, each with the epoch to which it is to be trained, round by round, point by point.
        choices: (norm, round) → choice, where the round is decided.
        widenings: of each round, as far as they are decided.
        rungs: epochs at which trials are compared.
    """

    needs: list[tuple[Key, Point, int]]
    choices: dict[tuple[str, int], Choice]
    widenings: list[list[Widening]]
    rungs: tuple[int, ...]


def rungs(search: Search, epochs: int, every: int | None = 1) -> tuple[int, ...]:
    """The epochs at which trials are compared: E/η², E/η and E, or just the `END`.

    Args:
        search: with its η.
        epochs: E, of a whole training; -1: it is not limited by epochs, so there is only the end.
        every: epochs between two validations; None: validation does not go by epochs.
    """
    if search.halving < 2 or epochs < 1 or every is None:
        return (END,)
    lower = {math.ceil(epochs / search.halving**k / every) * every for k in (1, 2)}
    return (*sorted(rung for rung in lower if rung < epochs), epochs)


def plan(
    search: Search,
    norms: Sequence[str],
    others: Iterable[str],
    records: Mapping[Key, Record],
    at: tuple[int, ...],
    larger: bool,
) -> Plan:
    """The trials that are needed next, or the choices.

    All norms of a round try the same points. If the choice of any of them is at an end of a range that can be widened,
    all try the added points.

    Args:
        search: what is tuned.
        norms: to be tuned.
        others: tuned before; they are not trained, but ranges that were widened for them stay so.
        records: of the trials that were run.
        at: the rungs.
        larger: whether larger scores are better.
    """
    found = Plan([], {}, [], at)
    known = list(dict.fromkeys([*norms, *others]))
    for number in range(search.rounds):
        widenings: list[Widening] = []
        while True:
            points = search.points(number, widenings)
            choices: dict[str, Choice] = {}
            needs: list[tuple[Key, Point, int]] = []
            for norm in known:
                its = {point: records.get((norm, number, point.name), NOTHING) for point in points}
                todo, rung, best = halve(its, at, search.halving, larger)
                if not todo:
                    choices[norm] = Choice(best, edges(best, its, search.dimensions, at, larger))
                elif norm in norms:
                    needs += [((norm, number, point.name), point, rung) for point in todo]
            if needs:
                order = {point.name: k for k, point in enumerate(points)}
                found.needs += sorted(needs, key=lambda need: order[need[0][2]])
                break
            wanted = _wanted(choices.values(), widenings, search.dimensions)
            if not wanted:
                found.choices |= {(norm, number): choice for norm, choice in choices.items()}
                break
            widenings += wanted
        found.widenings.append(widenings)
    return found


def halve(
    records: Mapping[Point, Record], at: tuple[int, ...], eta: int, larger: bool
) -> tuple[list[Point], int, Point | None]:
    """Synchronous successive halving (Jamieson & Talwalkar 2016): from each rung the best 1/η go on to the next.

    Args:
        records: of all points.
        at: the rungs.
        eta: η.
        larger: whether larger scores are better.

    Returns:
        the points to be trained now and the rung they are to reach; where there are none, the best point, or None if
        all diverged. Of equal scores, as small validation splits have many, that counts as better which has the better
        mean over its epochs, and then which comes first.
    """
    alive, worst = list(records), -math.inf if larger else math.inf
    for rung in at:
        todo = [point for point in alive if not records[point].reached(rung)]
        if todo:
            return todo, rung, None
        scores = {point: records[point].score(rung, larger) for point in alive}
        order = {p: (scores[p], records[p].mean(rung)) for p in alive if scores[p] != worst}
        ranked = sorted(order, key=order.__getitem__, reverse=larger)
        if not ranked or rung == at[-1]:
            return [], rung, ranked[0] if ranked else None
        alive = ranked[: math.ceil(len(alive) / eta)]
    raise AssertionError("there is no rung")


def edges(
    best: Point | None, records: Mapping[Point, Record], dimensions: Sequence[Dimension], at: tuple[int, ...],
    larger: bool,
) -> dict[str, str]:  # fmt: skip
    """Where the best point is at an end of the values that were tried, and strictly better than its neighbour there.

    The two are compared at the last rung that both have reached. A diverged neighbour is worse.
    """
    found = {}
    for dim in dimensions:
        if best is None or dim.kind == "choice":
            continue
        ordered = sorted(records, key=lambda point: (point[dim.key], point is not best))
        for end, line in zip(ENDS, (ordered, [*reversed(ordered)]), strict=True):
            others = [point for point in line if point[dim.key] != best[dim.key]]
            if line[0][dim.key] != best[dim.key] or not others:
                continue
            rung = max((rung for rung in at if records[others[0]].reached(rung)), default=at[0])
            own, its = (records[point].score(rung, larger) for point in (best, others[0]))
            if (own > its) if larger else (own < its):
                found[dim.key] = end
    return found


def _wanted(
    choices: Iterable[Choice], widenings: Sequence[Widening], dimensions: Sequence[Dimension]
) -> list[Widening]:
    at_edge = {edge for choice in choices for edge in choice.edges.items()}
    wanted = []
    for dim in dimensions:
        for end, reach in zip(ENDS, dim.reach, strict=True):
            times = sum((before.key, before.end) == (dim.key, end) for before in widenings)
            if (dim.key, end) in at_edge and times < reach:
                wanted.append(Widening(dim.key, end, times + 1))
    return wanted
