"""From effects to verdicts."""

from __future__ import annotations

import json
import math

import pytest

from rnnnorm.common.estimate import Estimate, estimate
from rnnnorm.engine.records import finite
from rnnnorm.studies.framework.case import Case
from rnnnorm.studies.framework.claim import Claim
from rnnnorm.studies.framework.verdict import Verdict, judge

CLAIM = Claim("it", "It is so.", "Somebody, 1997", "0.5")
UP, DOWN, ACROSS = Estimate(2.0, 1.0, 3.0, 3), Estimate(-2.0, -3.0, -1.0, 3), Estimate(0.5, -1.0, 2.0, 3)
NOTHING = estimate([])


@pytest.mark.parametrize(
    ("effect", "needed", "above", "below"),
    [
        (UP, 0.0, "holds", "fails"),
        (DOWN, 0.0, "fails", "holds"),
        (ACROSS, 0.0, "open", "open"),
        (UP, 0.99, "holds", "fails"),
        (UP, 3.01, "fails", "holds"),
        (UP, 2.0, "open", "open"),
        (UP, 1.0, "open", "open"),  # the end of the interval is the threshold: not the whole of it lies beyond
        (UP, 3.0, "open", "open"),
        (Estimate(1.0, 1.0, 1.0, 3), 1.0, "fails", "fails"),  # exactly there every time is neither above nor below
        (Estimate(1.0, 1.0, 1.0, 3), 0.999, "holds", "fails"),
        (estimate([5.0]), 0.0, "open", "open"),  # one seed says nothing about the spread
        (NOTHING, 0.0, "open", "open"),
        (UP, -math.inf, "holds", "fails"),
        (UP, math.inf, "fails", "holds"),
    ],
)
def test_a_claim_holds_where_the_whole_interval_is_on_its_side(
    effect: Estimate, needed: float, above: str, below: str
) -> None:
    assert Case("here", effect, needed).standing == above
    assert Case("here", effect, needed, below=True).standing == below


@pytest.mark.parametrize("value", [0.01, 0.1, 0.7, 1.05, 1 / 3])
def test_the_threshold_itself_every_time_is_not_above_it(value: float) -> None:
    for n in (2, 3, 5, 10):
        assert Case("here", estimate([value] * n), value).standing == "fails"


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        ([UP], "supported"),
        ([UP, UP], "supported"),
        ([DOWN], "contradicted"),
        ([DOWN, DOWN], "contradicted"),
        ([UP, DOWN], "depends"),
        ([ACROSS], "depends"),
        ([UP, ACROSS], "depends"),
        ([DOWN, ACROSS], "depends"),
        ([UP, DOWN, ACROSS], "depends"),
        ([UP, NOTHING], "supported"),
        ([NOTHING, DOWN], "contradicted"),
        ([UP, estimate([7.0])], "depends"),
    ],
)
def test_the_verdict_is_that_of_all_cases_and_flips_with_the_data(effects: list[Estimate], verdict: str) -> None:
    cases = [Case(f"case {k}", effect) for k, effect in enumerate(effects)]
    assert judge(CLAIM, "units", cases).verdict == verdict
    ends = [(-effect.mean, -effect.high, -effect.low, effect.n) for effect in effects]
    flipped = [Case("here", Estimate(*end)) for end in ends]
    turned = {"supported": "contradicted", "contradicted": "supported", "depends": "depends"}
    assert judge(CLAIM, "units", flipped).verdict == turned[verdict]
    mirrored = [Case(case.condition, case.effect, below=True) for case in cases]
    assert judge(CLAIM, "units", mirrored).verdict == turned[verdict]


def test_the_headline_comes_first_and_no_case_is_lost_or_doubled() -> None:
    cases = [Case("a", UP), Case("b", DOWN), Case("c", ACROSS)]
    for headline, order in ((0, "abc"), (1, "bac"), (2, "cab")):
        found = judge(CLAIM, "units", cases, headline=headline)
        assert [case.condition for case in found.cases] == list(order)
        assert found.headline is cases[headline]


def test_a_headline_without_values_makes_room_for_one_that_has() -> None:
    found = judge(CLAIM, "units", [Case("a", UP), Case("b", NOTHING)], headline=1)
    assert [case.condition for case in found.cases] == ["a"]


def test_a_negative_headline_counts_from_the_end_or_is_refused() -> None:
    cases = [Case("a", UP), Case("b", DOWN)]
    try:
        found = judge(CLAIM, "units", cases, headline=-1)
    except (ValueError, IndexError):
        return
    assert [case.condition for case in found.cases] == ["b", "a"]


def test_a_claim_without_cases_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'it'"):
        judge(CLAIM, "units", [])


def test_without_words_of_its_own_a_verdict_lists_its_conditions() -> None:
    says = judge(CLAIM, "units", [Case("a", UP), Case("b", DOWN), Case("c", ACROSS), Case("d", UP)]).says
    assert says == "holds for a, d; fails for b; undecided for c"
    assert judge(CLAIM, "units", [Case("a", UP)], says="So it is.").says == "So it is."


@pytest.mark.parametrize("effect", [UP, estimate([5.0]), NOTHING], ids=["three seeds", "one seed", "nothing"])
def test_it_can_be_written_as_json(effect: Estimate) -> None:
    found = judge(CLAIM, "units", [Case("a", effect, 0.25, below=True), Case("b", effect)])
    content = json.loads(json.dumps(finite(found.as_dict()), allow_nan=False))
    assert content["key"] == "it"
    assert content["claim"] == "It is so."
    assert content["published"] == "0.5"
    assert content["condition"] == "a"
    assert content["n"] == effect.n
    assert content["verdict"] == found.verdict
    assert [case["needed"] for case in content["conditions"]] == ["< 0.25", "> 0"]
    assert [case["standing"] for case in content["conditions"]] == [case.standing for case in found.cases]
    if effect is UP:
        assert content["effect"] == 2.0
        assert content["interval"] == [1.0, 3.0]


def test_a_verdict_is_what_it_was_made_of() -> None:
    found = Verdict(CLAIM, "supported", "units", (Case("a", UP), Case("b", UP)))
    assert found.headline.condition == "a"
