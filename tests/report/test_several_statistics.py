"""Statistics over data sets: hand-computed cases, and how often intervals cover on made-up scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from rnnnorm.report.several.aggregate import (
    effective_degrees,
    interquartile_mean,
    mean_improvement,
    performance_profile,
    pooled_iqm,
    thresholds,
)
from rnnnorm.report.several.ranks import TESTED_SETS, Ranks, critical_difference, friedman, groups
from rnnnorm.report.several.relative import loss, loss_ratio, relative_improvement

Array = NDArray[Any]
INF = math.inf


@pytest.mark.parametrize(
    ("mine", "its", "expected"),
    [(1, 2, 1 / 3), (2, 1, -1 / 3), (0.4, 0.4, 0), (0, 0.1, 1), (0.1, 0, -1), (0, 0, 0), (INF, 1, -1), (1, INF, 1),
     (INF, INF, 0), (INF, 0, -1)],
)  # fmt: skip
def test_relative_improvement(mine: float, its: float, expected: float) -> None:
    found = float(relative_improvement(np.array([mine], float), np.array([its], float))[0])
    assert found == pytest.approx(expected)
    if 0 < mine < INF and 0 < its < INF:
        assert loss_ratio(found) == pytest.approx(mine / its)
        assert found == pytest.approx(math.tanh(math.log(its / mine) / 2))


@pytest.mark.parametrize(
    ("scores", "metric", "larger", "expected"),
    [
        ([0.9, -INF], "accuracy", True, [0.1, INF]),
        ([100.0, INF], "perplexity", False, [math.log(100), INF]),
        ([2.0, 0.0], "mse", False, [2.0, 0.0]),
        ([1.5, 0.2], "reward", True, None),
        ([-0.5, 0.2], "r2", True, None),
        ([-3.0, 2.0], "nll", False, None),
    ],
)
def test_losses(scores: list[float], metric: str, larger: bool, expected: list[float] | None) -> None:
    found = loss(np.array(scores), metric, larger)
    assert (found is None) == (expected is None)
    if found is not None:
        assert found == pytest.approx(expected)


def test_interquartile_mean() -> None:
    values = np.sort(np.random.default_rng(0).normal(size=12))
    even = interquartile_mean(values, np.ones((1, 12)))[0]
    assert even == pytest.approx(stats.trim_mean(values, 0.25))
    # Thirds: the outer values count with 1/3 - 1/4 = 1/12 each, the middle one with 1/3, of 1/2.
    assert interquartile_mean(np.array([0.0, 1.0, 5.0]), np.ones((1, 3)))[0] == pytest.approx((1 / 3 + 5 / 12) * 2)
    assert interquartile_mean(np.array([0.0, 1.0, 5.0]), np.array([[0.0, 0.0, 2.0]]))[0] == pytest.approx(5.0)


def test_data_sets_weigh_alike_whatever_their_seeds() -> None:
    few, many = [np.array([0.2, 0.4]), np.array([-0.1, 0.0])], [np.array([0.2, 0.4] * 4), np.array([-0.1, 0.0])]
    assert pooled_iqm(few)[0].mean == pytest.approx(pooled_iqm(many)[0].mean)


def test_one_seed_has_no_interval() -> None:
    one, both = pooled_iqm([np.array([0.2]), np.array([0.1, 0.3])])
    assert one.mean == pytest.approx(0.2)
    assert math.isnan(one.low)
    assert math.isnan(both.low)
    assert math.isnan(mean_improvement([[(1.0, 0.0)], [(1.0, 0.0), (0.0, 1.0)]]).low)
    assert math.isnan(pooled_iqm([np.array([0.1, 0.1]), np.array([0.1, 0.1])])[0].low)


def _losses(random: np.random.Generator, sets: int, seeds: int, apart: bool) -> tuple[Array, Array]:
    """Losses of a norm and of the baseline, (sets, seeds): other effects and other noise on each data set.

    `apart`: the data sets hardly overlap, and the noise of one makes up most of the error.
    """
    effect, noise = np.linspace(-0.3, 0.3, sets)[:, None], np.linspace(0.1, 0.4, sets)[:, None]
    if apart:
        effect, noise = np.linspace(-0.8, 0.8, sets)[:, None], np.geomspace(0.02, 0.5, sets)[:, None]
        effect = effect[np.arange(sets) * 2 % sets if sets % 2 else np.arange(sets)]
    shared = 0.2 * random.normal(size=(sets, seeds))
    mine = np.exp(shared - effect + noise * random.normal(size=(sets, seeds)))
    return mine, np.exp(shared + noise * random.normal(size=(sets, seeds)))


@pytest.mark.parametrize(("sets", "seeds"), [(2, 5), (3, 3), (6, 3), (4, 8)])
@pytest.mark.parametrize("apart", [False, True])
def test_the_interval_of_the_interquartile_mean_covers(sets: int, seeds: int, apart: bool) -> None:
    random = np.random.default_rng(3)
    large = np.sort(relative_improvement(*_losses(random, sets, 100_000, apart)).ravel())
    true = large[len(large) // 4 : 3 * len(large) // 4].mean()
    covered, rounds = 0, 400
    for _ in range(rounds):
        values = relative_improvement(*_losses(random, sets, seeds, apart))
        one, _ = pooled_iqm(list(values))
        covered += one.low <= true <= one.high
    assert (0.87 if apart else 0.92) <= covered / rounds <= 0.99


def test_degrees_of_freedom_are_those_of_the_data_sets_that_matter() -> None:
    random = np.random.default_rng(0)

    def degrees(values: list[Array]) -> float:
        flat = np.sort(np.concatenate(values))
        return effective_degrees(values, flat, np.ones(len(flat)))

    alike = [np.array([-1.0, 0.0, 1.0]) for _ in range(4)]
    assert degrees(alike) == pytest.approx(8)
    noisy = [random.normal(size=3), *(np.array([0.0, 0.001, 0.002]) for _ in range(2))]
    assert 2 <= degrees(noisy) < 8
    outer = [
        np.array([-9.0, -8.0, -7.0]),
        *(k / 10 + np.array([-1.0, 0.0, 1.0]) for k in range(2)),
        np.array([7.0, 8, 9]),
    ]
    assert degrees(outer) == pytest.approx(4, abs=0.5)  # beyond the quartiles on both sides: no share in the error


def test_simultaneous_intervals_are_wider() -> None:
    values = list(np.random.default_rng(1).normal(0.1, 0.1, size=(3, 5)))
    one, both = pooled_iqm(values, 4)
    assert both.low < one.low < one.mean < one.high < both.high


@pytest.mark.parametrize(("sets", "seeds"), [(2, 3), (2, 5), (4, 3), (6, 8)])
def test_under_no_difference_the_probability_of_improvement_is_one_half(sets: int, seeds: int) -> None:
    random = np.random.default_rng(5)
    held, missed, rounds = 0, 0, 400
    for _ in range(rounds):
        shared = random.normal(size=(sets, seeds, 1))
        ended = 0.7 * shared + random.normal(size=(sets, seeds, 2))
        found = mean_improvement([[(float(a), float(b)) for a, b in its] for its in ended])
        if math.isnan(found.low):
            missed += 1
        else:
            held += found.low <= 0.5 <= found.high
    assert missed <= 0.02 * rounds
    assert held / (rounds - missed) >= 0.92


def test_probability_of_improvement_by_hand() -> None:
    # Data set 1: pairs (2, 1), (2, 3), (0, 1), (0, 3): one of four. Data set 2: a diverged run loses, ties count half.
    found = mean_improvement([[(2.0, 1.0), (0.0, 3.0)], [(-INF, 1.0), (1.0, -INF)]])
    assert found.mean == pytest.approx((0.25 + (0 + 0.5 + 0.5 + 1) / 4) / 2)
    assert found.n == 2
    assert mean_improvement([[(2.0, 1.0), (3.0, 0.0)]] * 2).mean == 1
    assert math.isnan(mean_improvement([[(2.0, 1.0), (3.0, 0.0)]] * 2).low)


def test_performance_profile_by_hand() -> None:
    profile = performance_profile([np.array([-0.5, 0.5]), np.array([0.0, 0.2, 0.2, 0.6])])
    at = {round(float(tau), 2): k for k, tau in enumerate(thresholds())}
    expected = {
        -1.0: 1.0,
        -0.5: 1.0,
        -0.49: 0.75,
        0.0: 0.75,
        0.01: 0.625,
        0.2: 0.625,
        0.3: 0.375,
        0.55: 0.125,
        0.7: 0.0,
    }
    for tau, share in expected.items():
        assert profile[0, at[tau]] == pytest.approx(share), tau
    assert (profile[1] <= profile[0] + 1e-9).all()
    assert (profile[0] <= profile[2] + 1e-9).all()
    assert np.isnan(performance_profile([np.array([0.1]), np.array([0.1, 0.2])])[1:]).all()


def test_friedman() -> None:
    random = np.random.default_rng(2)
    scores = random.normal(size=(20, 4)) + np.array([0.0, 0.3, 0.5, 0.2])
    ranks = stats.rankdata(-scores, axis=1)
    assert friedman(ranks) == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue, abs=0.02)
    # Three norms in the same order on three data sets: 6 of 216 arrangements are as far apart.
    assert friedman(np.tile([1.0, 2.0, 3.0], (3, 1))) == pytest.approx(6 / 216, abs=0.004)


def test_friedman_rejects_seldom_without_a_difference() -> None:
    random = np.random.default_rng(4)
    ranks = [stats.rankdata(random.normal(size=(TESTED_SETS, 4)), axis=1) for _ in range(250)]
    assert np.mean([friedman(its) < 0.05 for its in ranks]) <= 0.09


def test_critical_difference() -> None:
    # Demšar, JMLR 2006, section 3.2.2: four classifiers, 14 data sets, q = 2.569.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    ranks = np.tile([1.0, 2.0, 3.0, 4.0], (14, 1))
    assert groups(Ranks(("a", "b", "c", "d"), (), ranks, 0.001, 1.25)) == [("a", "b"), ("b", "c"), ("c", "d")]
    assert groups(Ranks(("a", "b", "c", "d"), (), ranks, 0.001, 2.5)) == [("a", "b", "c"), ("b", "c", "d")]
    assert groups(Ranks(("a", "b"), (), ranks[:, :2])) == []
