"""One number per norm and question."""

from __future__ import annotations

import math

import pytest
from bench.made_records import SMALL, WIDE, record, whole_run

from rnnnorm.bench import GOALS, Goal, summarize
from rnnnorm.bench.records import EAGER, PADDED, RATIO, REFERENCE, SCRIPT, TORCH
from rnnnorm.bench.summary import Line

DENSE, WORST, SCRIPTED = (
    next(goal.name for goal in GOALS if goal.part == "dense" and goal.worst == worst and goal.metric == metric)
    for worst, metric in ((False, RATIO), (True, RATIO), (False, SCRIPT))
)


def line(lines: list[Line], goal: str, norm: str = "ln") -> Line:
    (found,) = (entry for entry in lines if (entry.goal, entry.norm) == (goal, norm))
    return found


def test_the_mean_over_shapes_can_reach_a_goal_that_the_worst_shape_misses() -> None:
    lines = summarize([record(0.5), record(1.5, shape=WIDE)])
    mean, worst = line(lines, DENSE), line(lines, WORST)
    assert mean.value == pytest.approx(math.sqrt(0.5 * 1.5))
    assert (mean.met, mean.shapes, mean.bound) == (True, 2, 1.0)
    assert worst.value == 1.5
    assert (worst.met, worst.shapes, worst.bound) == (False, 2, 1.3)


@pytest.mark.parametrize(("ratio", "met"), [(0.99, True), (1.0, True), (1.01, False)])
def test_a_ratio_meets_its_goal_up_to_the_bound(ratio: float, met: bool) -> None:
    assert line(summarize([record(ratio)]), DENSE).met is met


@pytest.mark.parametrize(("factor", "met"), [(2.4, False), (2.5, True), (9.0, True)])
def test_a_speed_up_meets_its_goal_from_the_bound_on(factor: float, met: bool) -> None:
    found = line(summarize([record(factor, metric=SCRIPT)]), SCRIPTED)
    assert found.met is met
    assert found.value == pytest.approx(factor)


def test_the_worst_speed_up_is_the_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    goal = Goal("worst speed-up", "dense", "dense", SCRIPT, 2.5, at_most=False, worst=True)
    monkeypatch.setattr("rnnnorm.bench.summary.GOALS", (goal,))
    (found,) = summarize([record(2.0, metric=SCRIPT), record(8.0, shape=WIDE, metric=SCRIPT)])
    assert (found.value, found.met) == (2.0, False)


def test_nothing_but_our_lstm_by_the_goals_own_measure_counts() -> None:
    others = [
        record(9.0, contender=TORCH, norm=""),
        record(9.0, contender=REFERENCE),
        record(9.0, metric=EAGER),
        record(9.0, part="growth"),
        record(9.0, part="ragged", lengths="heavy-tailed"),
        record(9.0, part="ragged", lengths="uniform", metric=PADDED),
        record(9.0, part="forward", lengths="uniform"),
    ]
    assert summarize(others) == []
    assert line(summarize([*others, record(0.5)]), DENSE).value == pytest.approx(0.5)


def test_norms_are_told_apart_and_their_backends_named() -> None:
    lines = summarize([record(0.5), record(2.0, norm="wn"), record(0.5, shape=WIDE, backend="reference")])
    assert line(lines, DENSE, "ln").backend == "native, reference"
    assert line(lines, DENSE, "wn").backend == "native"
    assert (line(lines, DENSE, "ln").met, line(lines, DENSE, "wn").met) == (True, False)


def test_a_whole_run_answers_every_question_for_every_norm() -> None:
    lines = summarize(whole_run().records)
    assert [(entry.goal, entry.norm) for entry in lines] == [(goal.name, n) for goal in GOALS for n in ("none", "ln")]
    assert all(entry.shapes == len({SMALL, WIDE}) for entry in lines)
    for goal in GOALS:
        assert line(lines, goal.name).bound == goal.bound
        assert line(lines, goal.name).metric == goal.metric


def test_no_records_no_lines() -> None:
    assert summarize([]) == []
