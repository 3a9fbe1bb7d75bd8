"""One number per norm and question."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from bench.made_records import SMALL, WIDE, record, table, whole_run

from rnnnorm.bench import GOALS, Goal, summarize
from rnnnorm.bench.records import EAGER, PADDED, RATIO, REFERENCE, SCRIPT, TORCH, pick

DENSE, WORST, SCRIPTED = (
    next(goal.name for goal in GOALS if goal.part == "dense" and goal.worst == worst and goal.metric == metric)
    for worst, metric in ((False, RATIO), (True, RATIO), (False, SCRIPT))
)


def line(answers: pd.DataFrame, goal: str, norm: str = "ln") -> pd.Series:
    (found,) = pick(answers, goal=goal, norm=norm).index
    return answers.loc[found]


def test_the_mean_over_shapes_can_reach_a_goal_that_the_worst_shape_misses() -> None:
    lines = summarize(table(record(0.5), record(1.5, shape=WIDE)))
    mean, worst = line(lines, DENSE), line(lines, WORST)
    assert mean.value == pytest.approx(math.sqrt(0.5 * 1.5))
    assert (mean.met, mean.shapes, mean.bound) == (True, 2, 1.0)
    assert worst.value == 1.5
    assert (worst.met, worst.shapes, worst.bound) == (False, 2, 1.3)


@pytest.mark.parametrize(("ratio", "met"), [(0.99, True), (1.0, True), (1.01, False)])
def test_a_ratio_meets_its_goal_up_to_the_bound(ratio: float, met: bool) -> None:
    assert line(summarize(table(record(ratio))), DENSE).met == met


@pytest.mark.parametrize(("factor", "met"), [(2.4, False), (2.5, True), (9.0, True)])
def test_a_speed_up_meets_its_goal_from_the_bound_on(factor: float, met: bool) -> None:
    found = line(summarize(table(record(factor, metric=SCRIPT))), SCRIPTED)
    assert found.met == met
    assert found.value == pytest.approx(factor)


def test_the_worst_speed_up_is_the_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    goal = Goal("worst speed-up", "dense", "dense", SCRIPT, 2.5, at_most=False, worst=True)
    monkeypatch.setattr("rnnnorm.bench.summary.GOALS", (goal,))
    found = summarize(table(record(2.0, metric=SCRIPT), record(8.0, shape=WIDE, metric=SCRIPT)))
    assert found[["value", "met"]].values.tolist() == [[2.0, False]]


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
    assert summarize(table(*others)).empty
    assert line(summarize(table(*others, record(0.5))), DENSE).value == pytest.approx(0.5)


def test_norms_are_told_apart_and_their_backends_named() -> None:
    lines = summarize(table(record(0.5), record(2.0, norm="wn"), record(0.5, shape=WIDE, backend="reference")))
    assert line(lines, DENSE, "ln").backend == "native, reference"
    assert line(lines, DENSE, "wn").backend == "native"
    assert (line(lines, DENSE, "ln").met, line(lines, DENSE, "wn").met) == (True, False)


def test_a_whole_run_answers_every_question_for_every_norm() -> None:
    lines = summarize(whole_run().records)
    assert list(zip(lines.goal, lines.norm, strict=True)) == [(goal.name, n) for goal in GOALS for n in ("none", "ln")]
    assert set(lines.shapes) == {len({SMALL, WIDE})}
    for goal in GOALS:
        assert line(lines, goal.name).bound == goal.bound
        assert line(lines, goal.name).metric == goal.metric


def test_no_records_no_lines() -> None:
    assert summarize(table()).empty
