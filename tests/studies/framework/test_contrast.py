"""Contrasts: conditions, references, labels, pairing by seed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from rnnnorm.studies.framework import Contrast, first, last, names_matching
from rnnnorm.studies.framework.case import NOT_APPLICABLE
from rnnnorm.studies.framework.selection import Words, chosen, occurring, spoken, within

WORDS = {"data": {"made": "made data"}, "layers": "{} layers"}


def table() -> pd.DataFrame:
    """Losses 10 × layers + (norm none: 5, ln: 1, bn: 2) + seed², for two sets of data, of which one has one depth."""
    rows = [
        {"data": data, "layers": layers, "norm": norm, "seed": seed, "quantity": "loss", "value": value}
        for data, depths in (("made", (3, 1)), ("real", (1,)))
        for layers in depths
        for norm, base in (("none", 5.0), ("ln", 1.0), ("bn", 2.0))
        for seed in (0, 1, 2)
        for value in [10.0 * layers + base + seed**2]
    ]
    return pd.DataFrame([*rows, {**rows[0], "quantity": "steps", "value": 1000.0}])


def effects(contrast: Contrast, m: pd.DataFrame | None = None) -> dict[str, float]:
    cases = [case for _, case in contrast.cases(table() if m is None else m, WORDS)]
    assert len({case.condition for case in cases}) == len(cases)
    return {case.condition: case.effect.mean for case in cases}


def test_a_level_is_the_mean_over_seeds() -> None:
    found = effects(Contrast("loss", "nats", "ln", by=("data", "layers"), label="{layers}, {data}"))
    assert found == pytest.approx(
        {"1 layers, made data": 38 / 3, "3 layers, made data": 98 / 3, "1 layers, real": 38 / 3}
    )
    assert list(found) == ["1 layers, made data", "3 layers, made data", "1 layers, real"]


def test_a_difference_is_paired_by_seed_and_no_norm_is_compared_with_itself() -> None:
    contrast = Contrast("loss", "nats", ("ln", "bn", "none"), "none", ("data",), {"layers": 1})
    (_, case), *_ = contrast.cases(table(), WORDS)
    assert (case.effect.mean, case.effect.low, case.effect.high, case.effect.n) == (-4, -4, -4, 3)
    assert effects(contrast) == {"ln, made data": -4, "bn, made data": -3, "ln, real": -4, "bn, real": -3}


def test_a_turned_difference_has_the_other_sign() -> None:
    assert effects(Contrast("loss", "nats", ("ln",), "none", only={"data": "made", "layers": 1}, turned=True)) == {
        "ln": 4
    }


@pytest.mark.parametrize("reference", [1, first])
def test_a_reference_may_be_another_condition(reference: Any) -> None:
    against = {"layers": (lambda found: found[0]) if reference is first else reference}
    contrast = Contrast("loss", "nats", "ln", against, ("data", "layers"), label="{layers} against {against[layers]}")
    assert effects(contrast) == {"3 layers against 1": 20}


def test_a_reference_that_was_not_measured_has_no_case() -> None:
    m = table()
    assert effects(Contrast("loss", "nats", ("ln",), "wn"), m) == {}
    assert effects(Contrast("loss", "nats", "ln", {"layers": lambda found: None}, ("layers",)), m) == {}
    assert effects(Contrast("loss", "nats", "ln", {"layers": 1}, ("layers",)), m[m["layers"] == 3]) == {}
    assert effects(Contrast("loss", "nats", ("ln",), "none"), m.iloc[:0]) == {}


def test_a_point_differs_from_its_reference_in_one_column_at_least() -> None:
    contrast = Contrast("loss", "nats", ("none", "ln"), {"norm": "none", "layers": 1}, ("layers",), {"data": "made"})
    assert effects(replace(contrast, label="{norm} {layers}")) == {
        "ln 1 layers": -4,
        "none 3 layers": 20,
        "ln 3 layers": 16,
    }


def test_only_seeds_of_both_sides_count_and_divergence_is_infinite() -> None:
    m = table()
    m = m[~((m["norm"] == "none") & (m["seed"] == 2))]
    (_, case), *_ = Contrast("loss", "nats", ("ln",), "none", only={"layers": 1, "data": "made"}).cases(m, WORDS)
    assert (case.effect.mean, case.effect.n) == (-4, 2)
    m.loc[(m["norm"] == "ln") & (m["seed"] == 1), "value"] = math.inf
    (_, case), *_ = Contrast("loss", "nats", ("ln",), "none", only={"layers": 1, "data": "made"}).cases(m, WORDS)
    assert (case.effect.mean, case.effect.n) == (math.inf, 2)
    assert case.standing == "undecided"


def test_the_first_column_is_the_outermost_loop() -> None:
    m = table()
    inside = Contrast("loss", "nats", ("bn", "ln"), by=("data",), only={"layers": 1})
    assert list(effects(inside, m)) == ["bn, made data", "ln, made data", "bn, real", "ln, real"]
    outside = Contrast("loss", "nats", ("bn", "ln"), by=("norm", "data"), only={"layers": 1})
    assert list(effects(outside, m)) == ["bn, made data", "bn, real", "ln, made data", "ln, real"]


def test_thresholds_may_depend_on_the_point() -> None:
    contrast = Contrast(
        "loss", "nats", "ln", by=("layers",), only={"data": "made"},
        needed=lambda point: 10.0 * point["layers"], below=lambda point: bool(point["layers"] > 1),
    )  # fmt: skip
    assert [(case.needed, case.below) for _, case in contrast.cases(table(), WORDS)] == [(10, False), (30, True)]


def test_a_label_may_be_a_function() -> None:
    contrast = Contrast("loss", "nats", "ln", by=("layers",), only={"data": "made"}, label=lambda p: "x" * p["layers"])
    assert list(effects(contrast)) == ["x", "xxx"]


def test_a_label_names_columns_of_the_point() -> None:
    with pytest.raises(KeyError, match="gain"):
        effects(Contrast("loss", "nats", "ln", label="{gain}"))


def test_what_occurs_is_in_order() -> None:
    assert occurring(table(), "layers") == [1, 3]
    assert occurring(table(), "norm") == ["none", "ln", "bn"]
    assert occurring(table(), "nothing") == []


@pytest.mark.parametrize(
    ("rule", "expected"),
    [(None, [1, 3]), (3, [3]), ((3, 7), [3, 7]), (first, [1]), (last, [3]), (lambda found: reversed(found), [3, 1])],
)
def test_rules_choose_values(rule: Any, expected: list[int]) -> None:
    assert chosen(table(), "layers", rule) == expected


def test_norms_match_with_whatever_overrides() -> None:
    assert names_matching("bn", "ln")(["none", "bn:gain=1", "bnx", "ln"]) == ["bn:gain=1", "ln"]


def test_numbers_without_a_format_are_short() -> None:
    words = {"c": lambda value: value * 2}
    assert spoken("{a} {b:.2f} {c} {d}", {"a": 8.0, "b": 8.0, "c": 8, "d": "x"}, words) == "8 8.00 16 x"


def test_conditions_outside_the_scope_are_shown_and_marked() -> None:
    m = pd.DataFrame(
        {"quantity": "loss", "norm": "ln", "seed": seed, "size": size, "value": 1.0 + seed}
        for size in (1, 2, 3)
        for seed in range(3)
    )
    contrast = Contrast("loss", "nats", by=("size",), norms="ln", label="{size}", scope=within(size=(1, 3)))
    cases = [case for _, case in contrast.cases(m, Words(), {"norm", "size"})]
    assert {case.condition: case.in_scope for case in cases} == {"1": True, "2": False, "3": True}


def test_within_takes_one_value_or_several_of_each_column() -> None:
    rule = within(state="reset", gain=(0.1, 1.0))
    assert rule({"state": "reset", "gain": 0.1, "other": 7})
    assert not rule({"state": "carried", "gain": 0.1})
    assert not rule({"state": "reset", "gain": 0.5})


def test_rows_of_other_trials_do_not_set_a_comparison_aside() -> None:
    """A norm that is refused in one part of a study is evidence in another one."""
    rows = pd.DataFrame(
        [
            {"part": part, "norm": norm, "seed": seed, "quantity": quantity, "value": value}
            for seed in (0, 1, 2)
            for part, norm, quantity, value in (
                ("learning", "bn", "inapplicable", 1.0),
                ("learning", "none", "loss", 1.0),
                ("reading", "bn", "loss", 2.0),
                ("reading", "none", "loss", 1.0),
            )
        ]
    )
    for only, said in (({"part": "reading"}, ""), ({}, ""), ({"part": "learning"}, NOT_APPLICABLE)):
        ((_, _, case),) = Contrast("loss", "nats", ("bn",), "none", only=only).compared(rows, WORDS, {"part", "norm"})
        assert case.aside == said
