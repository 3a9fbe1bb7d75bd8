"""Differences from a baseline: what is computed, how often it is wrong on made-up scores, and what is said of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from rnnnorm.report.canvas import LIGHT
from rnnnorm.report.differences import Difference, Differences, differences
from rnnnorm.report.forest import forest
from rnnnorm.report.inference import holm, improvement
from rnnnorm.report.lead import best, beyond, claims

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Array]


def normal(random: np.random.Generator, norms: int, seeds: int) -> Array:
    """Normal scores with an effect of the seed that all norms share, (norms, seeds)."""
    return 0.8 + 0.05 * random.normal(size=seeds) + 0.01 * random.normal(size=(norms, seeds))


def unequal(random: np.random.Generator, norms: int, seeds: int) -> Array:
    """The same, but two norms nearly agree on every seed and one varies ten times as much as the others."""
    scores = normal(random, norms, seeds)
    scores[1] = scores[0] + 0.0005 * random.normal(size=seeds)
    scores[-1] += 0.1 * random.normal(size=seeds)
    return scores


def skewed(random: np.random.Generator, norms: int, seeds: int) -> Array:
    """Skewed losses: the logarithm of each is a sum of an effect of the seed and one of the run."""
    return np.exp(-1 + 0.3 * random.normal(size=seeds) + 0.3 * random.normal(size=(norms, seeds)))


def bounded(random: np.random.Generator, norms: int, seeds: int) -> Array:
    """Accuracies near 1 on 1000 test sequences, of which the seed decides how difficult they are."""
    right = random.beta(95, 5, size=seeds) + 0 * random.normal(size=(norms, seeds))
    return random.binomial(1000, right) / 1000


DRAWS = {draw.__name__: draw for draw in (normal, unequal, skewed, bounded)}


def found(scores: Array, larger_is_better: bool = True) -> Differences:
    """Differences from the first of norms `n0`, `n1`, …"""
    by_norm = {f"n{k}": dict(enumerate(map(float, its))) for k, its in enumerate(scores)}
    sign = -1 if larger_is_better else 1
    ranking = sorted(by_norm, key=lambda norm: sign * float(np.mean(list(by_norm[norm].values()))))
    return differences(by_norm, ranking, "n0", larger_is_better)


def sentences(result: Differences) -> list[str]:
    said = [*claims(result, "accuracy"), best(result, "test accuracy 0.8", result.seeds)]
    return [sentence for sentence in said if sentence]


def claims_something(said: list[str]) -> bool:
    return any(words in sentence for sentence in said for words in ("Better than", "Worse than", "can be told apart"))


class TestNumbers:
    def test_agree_with_scipy(self) -> None:
        scores = normal(np.random.default_rng(0), 4, 5) + np.array([0.0, 0.02, -0.01, 0.0])[:, None]
        result = found(scores)
        for one in result.others:
            mine = scores[int(one.norm[1])]
            test = stats.ttest_rel(mine, scores[0])
            low, high = test.confidence_interval(0.95)
            assert one.p == pytest.approx(test.pvalue)
            assert (one.seedwise.low, one.seedwise.high) == pytest.approx((low, high))
            assert one.family == 4  # three norms against the baseline, and the two best
            low, high = test.confidence_interval(1 - 0.05 / 4)
            assert (one.simultaneous.low, one.simultaneous.high) == pytest.approx((low, high))
            wins = stats.mannwhitneyu(mine, scores[0]).statistic / 25
            assert one.improvement.mean == pytest.approx(wins)
            assert one.ahead == (mine > scores[0]).sum()

    def test_smaller_is_better_turns_the_sign(self) -> None:
        scores = skewed(np.random.default_rng(1), 3, 4)
        for up, down in zip(found(-scores).others, found(scores, larger_is_better=False).others, strict=True):
            assert up == down

    def test_holm(self) -> None:
        # Holm 1979: 3 · 0.01, 2 · 0.02, and not smaller than that
        assert holm([0.02, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])
        assert holm([0.02, 0.01, 0.03], reserved=1) == pytest.approx([0.06, 0.04, 0.06])
        assert holm([0.5, math.nan, 0.4]) == [1.0, 1.0, 1.0]
        assert holm([]) == []

    @pytest.mark.parametrize("seed", range(5))
    def test_an_interval_has_0_in_it_exactly_if_nothing_is_shown(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        cut = 0
        for _ in range(400):
            result = found(normal(random, 5, 4) + 0.03 * random.normal(size=(5, 1)))
            for one in (*result.others, result.best):
                assert one is not None
                assert one.differs == (not one.simultaneous.low < 0 < one.simultaneous.high)
                assert one.simultaneous.low <= one.seedwise.mean <= one.simultaneous.high
                cut += 0.0 in (one.simultaneous.low, one.simultaneous.high)
        assert cut  # Holm's procedure rejects more than Bonferroni's

    def test_probability_of_improvement(self) -> None:
        assert improvement([1, 2, 3], [0, 0, 0]).mean == 1
        assert improvement([1, 2], [1, 2]).mean == 0.5
        assert improvement([1, -math.inf], [2, -math.inf]).mean == (0 + 1 + 0 + 0.5) / 4
        assert math.isnan(improvement([1, 2, 3, 4], [4, 3, 2, 1]).low)
        five = improvement([1, 3, 5, 7, 9], [0, 4, 4, 8, 2])
        assert five.low < five.mean < five.high
        assert five == improvement([1, 3, 5, 7, 9], [0, 4, 4, 8, 2])


class TestEdges:
    def test_one_seed_has_no_interval(self) -> None:
        result = found(np.array([[0.5], [0.9]]))
        (one,) = result.others
        assert one.seedwise.mean == pytest.approx(0.4)
        assert all(math.isnan(x) for x in (one.seedwise.low, one.simultaneous.low, one.p, one.p_holm))
        assert not one.differs
        said = sentences(result)
        assert said[0].startswith("One seed cannot tell a difference from `n0` from luck")
        assert "one seed cannot tell whether its lead of 0.400 over `n0` is luck" in said[1]

    def test_two_seeds_have_a_wide_one(self) -> None:
        (one,) = found(np.array([[0.5, 0.6], [0.6, 0.72]])).others
        assert one.seedwise.high - one.seedwise.low == pytest.approx(2 * 12.7062 * 0.01, rel=1e-4)
        assert one.family == 1
        assert one.p_holm == one.p

    def test_equal_differences_show_nothing(self) -> None:
        # in binary, .6 - .5 and .9 - .8 differ in the last digit: t would be 1e15
        result = found(np.array([[0.5, 0.8, 0.1], [0.6, 0.9, 0.2], [0.55, 0.83, 0.11]]))
        one = next(one for one in result.others if one.norm == "n1")
        assert one.equal
        assert math.isnan(one.p)
        assert not one.differs
        assert any(
            "`n1` the difference from `n0` is the same on all seeds" in sentence for sentence in sentences(result)
        )

    def test_norms_that_compute_the_same_do_not_differ(self) -> None:
        (one,) = found(np.array([[0.5, 0.8, 0.1], [0.5, 0.8, 0.1]], dtype=np.float32)).others
        assert (one.seedwise.mean, one.p, one.improvement.mean, one.ahead) == (0, 1, 0.5, 1.5)
        assert one.equal

    def test_a_run_that_diverged_without_a_score_leaves_its_seed_out(self) -> None:
        scores = {"none": {0: 0.5, 1: 0.6, 2: 0.7}, "ln": {0: 0.6, 1: math.nan, 2: 0.9}}
        (one,) = differences(scores, ["ln", "none"], "none", True).others
        assert one.seeds == (0, 2)
        assert one.values == pytest.approx((0.1, 0.2))
        assert (one.ahead, len(one.ended)) == (2, 3)
        assert one.improvement.mean == pytest.approx((1 + 0.5 + 3) / 9)  # 0.6 beats 0.5, ties 0.6; 0.9 beats all

    def test_seeds_are_paired_by_number(self) -> None:
        scores = {"none": {3: 0.5, 7: 0.6}, "ln": {7: 0.7, 3: 0.55, 9: 0.1}}
        (one,) = differences(scores, ["ln", "none"], "none", True).others
        assert one.values == pytest.approx((0.05, 0.1))

    def test_no_common_seed(self) -> None:
        result = differences({"none": {0: 0.5}, "ln": {1: 0.7}}, ["ln", "none"], "none", True)
        assert result.others == ()
        assert sentences(result) == [
            "`ln` did best, with test accuracy 0.8 (one seed); it has no seed in common with the runner-up, `none`."
        ]


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
class TestOften:
    """Made-up comparisons of eight norms; rates of 1000 have a standard error of 0.7 percent."""

    def test_intervals_cover(self, draw: Draw, seeds: int) -> None:
        random = np.random.default_rng(seeds)
        effects = np.array([0.0, 0.01, -0.02, 0.0])[:, None]
        alone, together, trials = 0, 0, 1000
        for _ in range(trials):
            result = found(draw(random, 4, seeds) + effects)
            covered = []
            for one in result.others:
                truth = effects[int(one.norm[1]), 0]
                covered.append(one.simultaneous.low <= truth + 1e-12 and truth - 1e-12 <= one.simultaneous.high)
                alone += one.equal or one.seedwise.low <= truth <= one.seedwise.high
            together += all(covered) or any(one.equal for one in result.others)
        assert 0.94 <= alone / (3 * trials) <= 0.975
        assert together / trials >= 0.94

    def test_without_differences_the_lead_says_so(self, draw: Draw, seeds: int) -> None:
        random = np.random.default_rng(100 + seeds)
        false = 0
        for k in range(1000):
            result = found(draw(random, 8, seeds))
            wrong = any(one.differs for one in result.others) or bool(result.best and result.best.differs)
            false += wrong
            if k < 200:
                said = sentences(result)
                assert claims_something(said) == wrong, said
                assert wrong or any("No difference from `n0` in test accuracy can be shown" in text for text in said)
        assert false / 1000 <= 0.06

    def test_true_differences_leave_few_false_claims(self, draw: Draw, seeds: int) -> None:
        """Half of the norms far away, and two best ones that are equal: every claim about equal norms is false."""
        random = np.random.default_rng(200 + seeds)
        effects = np.array([0, 0, 0, -9, -9, -9, 9, 9.0])[:, None]
        false = 0
        for _ in range(700):
            result = found(draw(random, 8, seeds) + effects)
            wrong = [one.norm for one in result.others if one.differs and effects[int(one.norm[1]), 0] == 0]
            assert result.best is not None
            assert {result.best.norm, result.best.other} == {"n6", "n7"}
            false += bool(wrong) or result.best.differs
        assert false / 700 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 700)


@pytest.mark.parametrize(("seeds", "power"), [(3, 0.05), (5, 0.5), (10, 0.99)])
def test_a_difference_of_three_standard_deviations_is_found(seeds: int, power: float) -> None:
    random = np.random.default_rng(0)
    shown = 0
    for _ in range(300):
        scores = normal(random, 8, seeds)
        scores[1] += 3 * 0.01 * math.sqrt(2)  # of the differences
        result = found(scores)
        one = next(one for one in result.others if one.norm == "n1")
        shown += one.differs
        assert one.differs == any(
            text.startswith("Better than `n0`") and "`n1` by" in text for text in sentences(result)
        )
    assert shown / 300 >= power


class TestSentences:
    def clear(self) -> Differences:
        scores = normal(np.random.default_rng(3), 4, 8)
        return found(scores + np.array([0, 0.3, -0.3, 0.0])[:, None])

    def test_what_is_shown_and_what_is_not(self) -> None:
        up, down, open_, top = sentences(self.clear())
        assert up.startswith("Better than `n0` in test accuracy: `n1` by 0.")
        assert up.endswith("over 8 seeds, with simultaneous 95 % intervals.")
        assert down.startswith("Worse than `n0` in test accuracy: `n2` by 0.")
        assert open_.startswith("No difference from `n0` in test accuracy can be shown for `n3` over 8 seeds; ")
        assert open_.endswith("are excluded.")
        assert "`n1` did best, with test accuracy 0.8 over 8 seeds, and can be told apart from the runner-up" in top

    def test_the_limit_is_that_of_the_widest_interval(self) -> None:
        result = found(normal(np.random.default_rng(0), 3, 5))
        limit = max(max(-one.simultaneous.low, one.simultaneous.high) for one in result.others)
        (said,) = claims(result, "accuracy")
        assert f"differences of more than {limit:.4f} are excluded" in said
        assert claims(result, "accuracy", scale=limit / 2)[0].endswith("so few seeds exclude hardly any.")

    def test_claims_that_other_test_sequences_would_not_bear(self) -> None:
        def with_both(one: Difference, p: float) -> Difference:
            return Difference(**{**vars(one), "sequences": one.seedwise, "both": one.seedwise, "p_both": p})

        result = self.clear()
        first, *others = result.others
        fails = Differences(result.baseline, (with_both(first, 0.2), *(with_both(one, 0.01) for one in others)))
        said = beyond(fails, "40 test sequences")
        assert said == (
            "With the sampling error of the 40 test sequences counted, too, the difference of `n2` is still shown, "
            "that of `n1` is not."
        )
        assert beyond(result, "") == ""


def test_an_interval_that_leaves_the_figure_ends_in_an_arrow() -> None:
    scores = {"none": {0: 0.5, 1: 0.5, 2: 0.5}, "ln": {0: 0.6, 1: 0.61, 2: 0.6}, "bn": {0: 0.4, 1: 0.9}}
    result = differences(scores, ["ln", "bn", "none"], "none", True)
    axes = Figure().add_subplot()
    forest(axes, result.others, ["none", "ln", "bn"], LIGHT)
    low, high = axes.get_xlim()
    arrows = [(line.get_marker(), *line.get_xdata()) for line in axes.lines if line.get_marker() in ("<", ">")]
    wide = next(one for one in result.others if one.norm == "bn").simultaneous
    assert wide.low < low
    assert wide.high > high
    assert arrows == [("<", low), (">", high)]  # two seeds; the three of ln fit
