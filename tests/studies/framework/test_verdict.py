"""From effects to verdicts."""

from __future__ import annotations

import json
import math

import pytest

from rnnnorm.common.estimate import Estimate, estimate
from rnnnorm.engine.records import finite
from rnnnorm.studies.framework.case import Case
from rnnnorm.studies.framework.claim import Claim
from rnnnorm.studies.framework.interval import interval
from rnnnorm.studies.framework.verdict import Verdict, corrected, judge

CLAIM = Claim("it", "It is so.", "Somebody, 1997", "0.5")
UP, DOWN, ACROSS, FLAT = (
    Estimate(20.0, 19.0, 21.0, 9),
    Estimate(-20.0, -21.0, -19.0, 9),
    Estimate(0.5, -15.0, 16.0, 9),
    Estimate(0.1, -0.3, 0.5, 9),
)
NOTHING = estimate([])


@pytest.mark.parametrize(
    ("effect", "needed", "above", "below"),
    [
        (UP, 1.0, "supported", "opposite"),
        (DOWN, 1.0, "opposite", "supported"),
        (ACROSS, 1.0, "undecided", "undecided"),
        (FLAT, 1.0, "negligible", "supported"),  # "below 1" asserts that nothing as large as 1 happens
        (Estimate(1.0, 0.5, 1.5, 9), 1.0, "undecided", "undecided"),
        (Estimate(0.6, 0.2, 1.0, 9), 1.0, "negligible", "undecided"),  # the end is the threshold: not beyond it
        (estimate([1.0] * 5), 1.0, "negligible", "opposite"),
        (estimate([0.0] * 5), 1.0, "negligible", "supported"),  # exactly nothing is no harm
        (estimate([0.0] * 5), 0.0, "negligible", "negligible"),
        (UP, 0.0, "supported", "opposite"),
        (FLAT, 0.0, "undecided", "undecided"),
        (estimate([5.0]), 1.0, "undecided", "undecided"),  # one seed says nothing about the spread
        (NOTHING, 1.0, "undecided", "undecided"),
    ],
)
def test_a_standing_says_where_the_whole_interval_lies(effect: Estimate, needed: float, above: str, below: str) -> None:
    assert Case("here", effect, needed).standing == above
    mirrored = Case("here", Estimate(-effect.mean, -effect.high, -effect.low, effect.n), -needed, below=True)
    assert mirrored.standing == above
    assert Case("here", effect, needed, below=True).standing == below


def test_factors_are_measured_from_one() -> None:
    for mean, standing in ((1.2, "supported"), (1.0, "negligible"), (0.8, "opposite")):
        assert Case("here", Estimate(mean, mean - 0.01, mean + 0.01, 9), 1.1, null=1.0).standing == standing


def test_what_was_not_learned_or_changes_nothing_is_no_evidence() -> None:
    cases = [Case("a", UP, 1.0), Case("b", DOWN, 1.0, aside="not learned"), Case("c", DOWN, 1.0, in_scope=False)]
    found = judge(CLAIM, "units", cases)
    assert found.verdict == "supported"
    assert [case.standing for case in found.cases] == ["supported", "not learned", "opposite"]
    assert judge(CLAIM, "units", cases[1:]).verdict == "undecided"


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        ([UP], "supported"),
        ([UP, UP], "supported"),
        ([DOWN], "opposite"),
        ([DOWN, DOWN], "opposite"),
        ([FLAT, FLAT], "negligible"),
        ([ACROSS], "undecided"),
        ([UP, ACROSS], "undecided"),
        ([UP, DOWN], "heterogeneous"),
        ([UP, DOWN, ACROSS], "heterogeneous"),
        ([UP, FLAT], "undecided"),  # two conditions say little about further ones
        ([UP] * 9 + [ACROSS], "supported"),
        ([FLAT] * 9 + [ACROSS], "negligible"),
        ([UP, NOTHING], "supported"),
        ([NOTHING, DOWN], "opposite"),
        ([UP, estimate([7.0])], "undecided"),
        ([estimate([7.0])], "undecided"),
        ([], "refused"),
    ],
)
def test_the_verdict_is_that_of_the_cases_and_turns_with_the_data(effects: list[Estimate], verdict: str) -> None:
    cases = [Case(f"case {k}", effect, 1.0) for k, effect in enumerate(effects)]
    if not cases:
        with pytest.raises(ValueError, match="'it'"):
            judge(CLAIM, "units", cases)
        return
    found = judge(CLAIM, "units", cases)
    assert found.verdict == verdict
    assert found.p <= 0.05 or verdict == "undecided"
    turned = {"supported": "opposite", "opposite": "supported"}
    ends = [(-effect.mean, -effect.high, -effect.low, effect.n) for effect in effects]
    flipped = [Case("here", Estimate(*end), 1.0) for end in ends]
    assert judge(CLAIM, "units", flipped).verdict == turned.get(verdict, verdict)


def test_conditions_of_the_same_runs_have_one_vote() -> None:
    same = [Case(f"mode {k}", UP, 1.0, cluster="one") for k in range(8)]
    others = [Case("b", ACROSS, 1.0, cluster="b"), Case("c", FLAT, 1.0, cluster="c")]
    found = judge(CLAIM, "units", [*same, *others])
    assert found.pooled is not None
    assert found.pooled.k == 3
    alone = judge(CLAIM, "units", [same[0], *others]).pooled
    assert alone is not None
    assert found.pooled.mean == pytest.approx(alone.mean)


def test_a_norm_that_always_diverges_is_judged() -> None:
    lost = interval([-math.inf] * 10)
    assert Case("here", lost, 0.1).standing == "opposite"
    assert judge(CLAIM, "units", [Case("here", lost, 0.1), Case("there", lost, 0.1)]).verdict == "opposite"
    mixed = interval([-math.inf] * 5 + [1.0] * 5)
    assert Case("here", mixed, 0.1).standing == "undecided"
    many = [Case("here", lost, 0.1), *[Case("there", FLAT, 1.0)] * 6]
    assert judge(CLAIM, "units", many).verdict in ("undecided", "negligible")  # it counts, and nothing breaks


def test_verdicts_are_corrected_for_the_number_of_claims() -> None:
    lucky = [("supported", 0.04)] + [("undecided", 1.0)] * 19
    assert corrected(lucky) == ["undecided"] * 20
    assert corrected([("supported", 0.001)] * 3 + [("negligible", 0.03)]) == ["supported"] * 3 + ["negligible"]
    assert corrected([]) == []


def test_how_many_seeds_an_undecided_condition_needs() -> None:
    here = Case("here", estimate([0.0, 0.4, 0.8, 1.2, 1.6], 1 - 0.0182), 0.5)
    needed = here.seeds_to_decide()
    assert here.standing == "undecided"
    assert needed is not None
    assert 25 < needed < 35  # gap 0.3, standard deviation 0.63: (2.36 · 0.63 / 0.3)² = 25, and more for Student's t
    assert Case("here", UP, 1.0).seeds_to_decide() is None


def test_the_headline_comes_first_and_no_case_is_lost_or_doubled() -> None:
    cases = [Case("a", UP), Case("b", DOWN), Case("c", ACROSS)]
    for headline, order in ((0, "abc"), (1, "bac"), (2, "cab")):
        found = judge(CLAIM, "units", cases, headline=headline)
        assert [case.condition for case in found.cases] == list(order)
        assert found.headline is cases[headline]
    with pytest.raises(ValueError, match="no case -1"):
        judge(CLAIM, "units", cases, headline=-1)


def test_a_headline_without_values_makes_room_for_one_that_has() -> None:
    found = judge(CLAIM, "units", [Case("a", UP), Case("b", NOTHING)], headline=1)
    assert [case.condition for case in found.cases] == ["a"]


def test_without_words_of_its_own_a_verdict_lists_its_conditions() -> None:
    cases = [Case("a", UP, 1.0), Case("b", DOWN, 1.0), Case("c", ACROSS, 1.0), Case("d", UP, 1.0)]
    assert judge(CLAIM, "units", cases).says == "supported: a, d; opposite: b; undecided: c"
    assert judge(CLAIM, "units", cases, says="So it is.").says == "So it is."


@pytest.mark.parametrize("effect", [UP, estimate([5.0]), NOTHING], ids=["nine seeds", "one seed", "nothing"])
def test_it_can_be_written_as_json(effect: Estimate) -> None:
    found = judge(CLAIM, "units", [Case("a", effect, 0.25, below=True), Case("b", effect, 1.0)])
    content = json.loads(json.dumps(finite(found.as_dict()), allow_nan=False))
    assert content["key"] == "it"
    assert content["claim"] == "It is so."
    assert content["published"] == "0.5"
    assert content["condition"] == "a"
    assert content["n"] == effect.n
    assert content["verdict"] == found.verdict
    assert [case["needed"] for case in content["conditions"]] == ["< 0.25", "> 1"]
    assert [case["standing"] for case in content["conditions"]] == [case.standing for case in found.cases]
    if effect is UP:
        assert content["effect"] == 20.0
        assert content["interval"] == [19.0, 21.0]


def test_a_verdict_is_what_it_was_made_of() -> None:
    found = Verdict(CLAIM, "supported", "units", (Case("a", UP), Case("b", UP)))
    assert found.headline.condition == "a"


def test_conditions_of_both_signs_differ_also_where_no_effects_can_be_pooled() -> None:
    """Cochran's Q needs a common unit and several runs; Holm's procedure does not."""
    for cases in (
        [Case("a", UP, 0.0), Case("b", DOWN, 0.0)],  # no δ
        [Case("a", UP, 1.0, cluster="one"), Case("b", DOWN, 1.0, cluster="one")],
    ):
        found = judge(CLAIM, "units", cases)
        assert (found.verdict, found.pooled) == ("heterogeneous", None)
        assert found.p < 0.05
        assert (
            judge(CLAIM, "units", [cases[0], Case("b", ACROSS, cases[0].needed, cluster="one")]).verdict == "undecided"
        )
