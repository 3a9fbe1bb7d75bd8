"""Which trials are needed next, and which one is chosen: pure functions of what has been run."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from rnnnorm.compare.halving import Key, Plan, Record, edges, halve, plan, rungs
from rnnnorm.compare.search import Dimension, Point, Search

RATE = Dimension("model.learning_rate", "log", 1e-3, 1e-1, reach=(2, 2))
Score = Callable[[str, float, int], float | None]


def run_all(search: Search, norms: list[str], score: Score, at: tuple[int, ...] = (8,), larger: bool = True) -> Plan:
    """Run what is needed until there is nothing left; `score(norm, rate, epoch)` is None where a trial diverges."""
    return run_from({}, search, norms, score, at, larger)[0]


def run_from(
    records: dict[Key, Record], search: Search, norms: list[str], score: Score, at: tuple[int, ...], larger: bool = True
) -> tuple[Plan, dict[Key, Record]]:
    records = dict(records)
    for _ in range(50):
        found = plan(search, norms, sorted({norm for norm, _, _ in records}), records, at, larger)
        if not found.needs:
            return found, records
        for key, point, rung in found.needs:
            scores: list[tuple[int, float]] = []
            diverged = None
            for epoch in range(1, rung + 1):
                value = score(key[0], point[RATE.key], epoch)
                diverged = epoch if value is None else None
                if value is None:
                    break
                scores.append((epoch, value))
            records[key] = Record(diverged or rung, tuple(scores), rung == at[-1] or diverged is not None, diverged)
    raise AssertionError("no end")


def peak(at: float) -> Score:
    """A score that falls with the distance to a best rate."""
    return lambda norm, rate, epoch: -abs(math.log(rate / at)) - 1 / epoch


def test_the_best_validation_score_is_chosen() -> None:
    search = Search((RATE,), 8)
    points = search.points(0)
    best = min(points, key=lambda p: abs(math.log(p[RATE.key] / 0.01)))
    for larger, score in ((True, peak(0.01)), (False, lambda n, r, e: -peak(0.01)(n, r, e))):  # type: ignore[operator]
        found = run_all(search, ["a"], score, larger=larger)
        assert found.choices["a", 0].point == best
        assert found.choices["a", 0].edges == {}


@pytest.mark.parametrize("larger", [True, False])
def test_of_equal_best_scores_the_one_with_the_better_mean_is_chosen(larger: bool) -> None:
    search, sign = Search((RATE,), 8), 1 if larger else -1
    steady = min(search.points(0), key=lambda p: abs(math.log(p[RATE.key] / 0.01)))

    def score(norm: str, rate: float, epoch: int) -> float:
        """All reach the best there is, one of them stays there."""
        return sign * (1.0 if epoch == 4 or (rate == steady[RATE.key] and epoch > 4) else 0.5)

    chosen = run_all(search, ["a"], score, larger=larger).choices["a", 0]
    assert chosen.point == steady
    assert chosen.edges == {}, "the best scores are equal: no range is widened"
    flat = run_all(search, ["a"], lambda *_: 1.0, larger=larger).choices["a", 0]
    assert flat.point == search.points(0)[0], "with equal means the first one counts"


def test_diverged_trials_count_as_worst_and_all_of_them_leave_no_choice() -> None:
    search = Search((RATE,), 8)
    found = run_all(search, ["a"], lambda n, rate, e: None if rate > 0.02 else rate)
    assert found.choices["a", 0].point is not None
    assert found.choices["a", 0].point[RATE.key] < 0.02
    late = run_all(search, ["a"], lambda n, rate, e: None if rate > 0.02 and e == 8 else rate)
    assert late.choices["a", 0] == found.choices["a", 0], "whatever its scores before"
    assert run_all(search, ["a"], lambda *_: None).choices["a", 0].point is None


def test_all_norms_get_the_same_points_although_one_of_them_alone_is_at_an_edge() -> None:
    at = {"a": 0.01, "b": 1e-5, "c": 0.02}
    seen: dict[str, list[float]] = {norm: [] for norm in at}

    def score(norm: str, rate: float, epoch: int) -> float:
        seen[norm] += [rate] if epoch == 8 else []
        return peak(at[norm])(norm, rate, epoch)  # type: ignore[return-value]

    found = run_all(Search((RATE,), 8), list(at), score)
    assert seen["a"] == seen["b"] == seen["c"]
    assert len(seen["a"]) == 8 + 2 * 3
    assert [w.end for w in found.widenings[0]] == ["low", "low"]
    assert found.choices["b", 0].edges == {RATE.key: "low"}, "still at the edge after two widenings"
    assert found.choices["a", 0].edges == {}


def test_a_range_is_widened_until_the_best_lies_inside() -> None:
    found = run_all(Search((RATE,), 8), ["a"], peak(0.3))
    assert [(w.end, w.times) for w in found.widenings[0]] == [("high", 1), ("high", 2)][: len(found.widenings[0])]
    assert found.widenings[0]
    chosen = found.choices["a", 0].point
    assert chosen is not None
    assert chosen[RATE.key] > 0.1
    assert found.choices["a", 0].edges == {}


def test_an_end_where_the_score_no_longer_rises_is_no_edge() -> None:
    points = [Point(str(k), ((RATE.key, value),)) for k, value in enumerate((0.1, 0.2, 0.3))]
    flat = {point: Record(8, ((8, 1.0),), True) for point in points}
    assert edges(points[0], flat, [RATE], (8,), True) == {}
    assert edges(points[2], flat | {points[1]: Record(8, ((8, 0.5),), True)}, [RATE], (8,), True) == {RATE.key: "high"}
    assert edges(points[0], flat | {points[1]: Record(3, (), True, 3)}, [RATE], (8,), True) == {RATE.key: "low"}


def test_rounds_are_decided_by_themselves() -> None:
    found = run_all(Search((RATE,), 4, rounds=3), ["a", "b"], peak(0.01))
    values = {found.choices["a", r].point.values for r in range(3)}  # type: ignore[union-attr]
    assert len(values) == 3


def test_halving_lets_the_best_part_go_on() -> None:
    trained: dict[float, int] = {}

    def score(norm: str, rate: float, epoch: int) -> float:
        trained[rate] = max(trained.get(rate, 0), epoch)
        return peak(0.01)(norm, rate, epoch)  # type: ignore[return-value]

    search = Search((RATE,), 9, halving=3)
    run_all(search, ["a"], score, at=rungs(search, 9))
    assert sorted(trained.values()) == [1] * 6 + [3] * 2 + [9]


@pytest.mark.parametrize(
    ("halving", "epochs", "every", "expected"),
    [
        (0, 8, 1, (2**31,)),
        (2, 8, 1, (2, 4, 8)),
        (3, 8, 1, (1, 3, 8)),
        (2, 8, 3, (3, 6, 8)),
        (2, 1, 1, (1,)),
        (4, 2, 1, (1, 2)),
        (2, 8, None, (2**31,)),
        (2, -1, 1, (2**31,)),
    ],
)
def test_rungs(halving: int, epochs: int, every: int | None, expected: tuple[int, ...]) -> None:
    assert rungs(Search((RATE,), halving=halving), epochs, every) == expected


@pytest.mark.parametrize("halving", [0, 2])
def test_a_search_that_grows_ends_as_if_it_had_been_that_large_at_once(halving: int) -> None:
    def score(norm: str, rate: float, epoch: int) -> float | None:
        return peak({"a": 0.05, "b": 0.5}[norm])(norm, rate, epoch) if (rate < 0.08 or epoch < 3) else None  # type: ignore[operator]

    small, large = (Search((RATE,), trials, rounds, halving) for trials, rounds in ((4, 1), (16, 2)))
    at = rungs(large, 8) if halving else (8,)
    _, records = run_from({}, small, ["a", "b"], score, at)
    grown, all_of_them = run_from(records, large, ["a", "b"], score, at)
    whole, alone = run_from({}, large, ["a", "b"], score, at)
    assert grown.choices == whole.choices
    assert grown.widenings == whole.widenings
    assert alone.keys() <= all_of_them.keys()


def test_an_order_in_which_trials_end_does_not_matter() -> None:
    search = Search((RATE,), 8, halving=2)
    at = rungs(search, 8)
    points = search.points(0)
    half = {point: Record(2, ((2, float(k)),)) for k, point in enumerate(points)}
    assert halve(half, at, 2, True)[0] == halve(dict(reversed(half.items())), at, 2, True)[0]
    assert {p.name for p in halve(half, at, 2, True)[0]} == {"4", "5", "6", "7"}


def test_norms_tuned_before_keep_their_ranges_widened() -> None:
    search = Search((RATE,), 8)
    at = (8,)
    score: Score = lambda norm, rate, epoch: peak({"a": 0.01, "b": 1e-5}[norm])(norm, rate, epoch)  # noqa: E731
    both, records = run_from({}, search, ["a", "b"], score, at)
    alone, more = run_from(records, search, ["a"], score, at)
    assert more == records
    assert alone.choices["a", 0] == both.choices["a", 0]
