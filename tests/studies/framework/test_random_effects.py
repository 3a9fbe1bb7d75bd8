"""Random effects over conditions, and what the whole way from seeds to verdicts errs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rnnnorm.studies.framework.case import Case
from rnnnorm.studies.framework.claim import Claim
from rnnnorm.studies.framework.interval import ERROR, LOOKS, interval
from rnnnorm.studies.framework.random_effects import pool
from rnnnorm.studies.framework.verdict import corrected, judge

CLAIM = Claim("it", "It is so.", "Somebody, 1997")

# Thirteen trials of the BCG vaccine (Colditz et al., 1994, as the documentation of metafor has them):
# vaccinated and control, with and without tuberculosis.
BCG = [
    (4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761),
    (180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232),
    (17, 1699, 65, 1600), (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825),
]  # fmt: skip


def test_a_published_meta_analysis_comes_out_again() -> None:
    a, b, c, d = np.array(BCG, dtype=float).T
    effects = np.log(a / (a + b)) - np.log(c / (c + d))
    errors = np.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d))
    found = pool(effects.tolist(), errors.tolist(), nominal=0.05)
    assert found.mean == pytest.approx(-0.7150, abs=5e-4)  # Paule and Mandel, as metafor has it
    assert found.spread**2 == pytest.approx(0.3181, abs=5e-4)
    assert found.p_equal < 1e-15  # Q = 152.23, 12 degrees of freedom
    assert found.low < -0.7150 < found.high
    assert found.high - found.low == pytest.approx(2 * 2.1788 * found.error, rel=1e-4)
    assert found.prediction is not None
    assert found.prediction[0] < found.low
    assert found.k == 13


def test_equal_effects_have_no_spread_and_an_impossible_call_is_refused() -> None:
    found = pool([1.0, 1.0, 1.0], [0.1, 0.2, 0.3])
    assert (found.mean, found.spread) == (pytest.approx(1.0), 0.0)
    assert found.error == pytest.approx(1 / math.sqrt(100 + 25 + 100 / 9))
    assert pool([1.0, 2.0], [0.1, 0.1]).prediction is None
    for effects, errors in (([1.0], [0.1]), ([1.0, 2.0], [0.1, 0.0]), ([1.0, 2.0], [0.1])):
        with pytest.raises(ValueError, match="two or more effects with positive errors"):
            pool(effects, errors)


def test_the_interval_covers_the_mean_of_conditions() -> None:
    draw, covered, trials = np.random.default_rng(0), 0, 400
    for _ in range(trials):
        errors = draw.uniform(0.2, 1.0, 6)
        effects = 0.7 + draw.normal(0, 0.5, 6) + draw.normal(0, errors)
        found = pool(effects.tolist(), errors.tolist(), nominal=0.05)
        covered += found.low < 0.7 < found.high
    assert 0.93 < covered / trials <= 0.99


def sequential(draw: np.random.Generator, effect: float, deviation: float) -> tuple[str, int]:
    """Standing and number of seeds of a condition that gets seeds until it is decided; δ = 1."""
    values = draw.normal(effect, deviation, LOOKS[-1])
    for n in LOOKS:
        standing = Case("here", interval(values[:n]), 1.0).standing
        if standing != "undecided":
            return standing, n
    return "undecided", LOOKS[-1]


@pytest.mark.parametrize("effect", [1.0, -1.0], ids=["at δ", "at -δ"])
def test_four_looks_err_in_one_of_twenty_at_most(effect: float) -> None:
    """At the very border no standing but `undecided` is right; each side may be wrong half as often."""
    draw = np.random.default_rng(1)
    found = [sequential(draw, effect, 0.5)[0] for _ in range(3000)]
    beyond = found.count("supported" if effect > 0 else "opposite") / len(found)
    inside = found.count("negligible") / len(found)
    assert beyond < ERROR / 2 + 0.01
    assert inside < ERROR / 2 + 0.01
    assert beyond > ERROR / 8  # not so cautious that looking is useless


@pytest.mark.parametrize(("effect", "standing"), [(0.0, "negligible"), (2.0, "supported"), (-2.0, "opposite")])
def test_effects_of_two_deltas_and_of_none_are_found(effect: float, standing: str) -> None:
    """With standard deviation δ conditions are decided by 40 seeds at the latest, most by 20."""
    draw = np.random.default_rng(2)
    found = [sequential(draw, effect, 1.0) for _ in range(1000)]
    assert np.mean([word == standing for word, _ in found]) > 0.97
    assert np.mean([n for _, n in found]) < 20


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [((0.0,) * 5, "negligible"), ((2.0,) * 5, "supported"), ((-2.0,) * 5, "opposite"),
     ((2.5, 2.0, -2.0, -2.5, 0.0), "heterogeneous")],
    ids=["none", "two δ", "minus two δ", "both"],
)  # fmt: skip
def test_claims_get_the_verdict_they_deserve(effects: tuple[float, ...], verdict: str) -> None:
    draw, found = np.random.default_rng(3), []
    for _ in range(200):
        cases = [Case("", interval(draw.normal(effect, 0.8, 20)), 1.0) for effect in effects]
        found.append(judge(CLAIM, "", cases).verdict)
    assert np.mean([word == verdict for word in found]) > 0.95
    wrong = {"supported", "opposite", "negligible", "heterogeneous"} - {verdict}
    assert np.mean([word in wrong for word in found]) < ERROR


def test_of_claims_that_are_decided_few_are_wrong() -> None:
    """Half of the effects at the border, where every decision is false, half of size 2δ: 5 % of decisions at most."""
    draw, false, decided = np.random.default_rng(4), 0, 0
    for _ in range(100):
        true = [1.0] * 10 + [2.0] * 10
        verdicts = [judge(CLAIM, "", [Case("", interval(draw.normal(e, 0.6, 10)), 1.0)]) for e in true]
        words = corrected([(one.verdict, one.p) for one in verdicts])
        false += sum(word != "undecided" for word in words[:10])
        decided += sum(word != "undecided" for word in words)
    assert decided > 500
    assert false / decided < ERROR


def test_infinite_values_have_the_interval_of_the_median() -> None:
    draw, covered, trials = np.random.default_rng(5), 0, 2000
    for _ in range(trials):
        values = draw.normal(0, 1, 12)
        values[values > 1.5] = math.inf  # a tenth or so diverges
        values[0] = math.inf if values[0] > 0 else values[0]
        found = interval(values)
        covered += found.low <= 0 <= found.high
    assert covered / trials > 0.97
    few = interval([math.inf] * 4 + [1.0])
    assert few.mean == math.inf
    assert math.isnan(few.low)  # five values have no such interval
    assert interval([math.inf] * 5).low == math.inf
    assert interval([math.nan, 1.0, 2.0]).n == 2
    assert interval([-math.inf, math.inf]).mean == 0.0
