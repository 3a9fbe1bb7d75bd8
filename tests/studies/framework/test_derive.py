"""Derived quantities: the best learning rate, values paired with those of a reference."""

from __future__ import annotations

import math
import operator

import numpy as np
import pandas as pd

from rnnnorm.studies.framework import best_by, mapped, paired
from rnnnorm.studies.framework.derive import by_others


def runs(losses: dict[tuple[str, float], list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"norm": norm, "lr": rate, "seed": seed, "quantity": quantity, "value": value}
            for (norm, rate), values in losses.items()
            for seed, value in enumerate(values)
            for quantity in ("best_val_loss", "learned")
        ]
    )


def test_each_norm_has_the_rate_with_the_lowest_median() -> None:
    m = runs({
        ("ln", 0.1): [1.0, 1.0, math.inf],  # one seed decides nothing
        ("ln", 0.2): [2.0, 2.0, 0.0],
        ("none", 0.1): [3.0, 3.0, 3.0],
        ("none", 0.2): [1.0, 9.0, 2.0],
    })  # fmt: skip
    chosen = best_by(m, "best_val_loss", "lr", ["norm"], "median")
    assert dict(zip(chosen["norm"], chosen["lr"], strict=True)) == {"ln": 0.1, "none": 0.2}
    assert len(chosen) == 12  # every row of the chosen runs, of any quantity


def test_where_every_rate_diverges_one_is_kept() -> None:
    chosen = best_by(
        runs({("ln", 0.1): [math.inf] * 3, ("ln", 0.2): [math.inf] * 3}), "best_val_loss", "lr", ["norm"], "median"
    )
    assert chosen["lr"].unique().tolist() == [0.1]
    assert len(chosen) == 6


def test_tables_without_rates_are_left_as_they_are() -> None:
    m = runs({("ln", 0.1): [1.0]})
    assert best_by(m.drop(columns="lr"), "best_val_loss", "lr", ["norm"], "median").equals(m.drop(columns="lr"))
    assert best_by(m.iloc[:0], "best_val_loss", "lr", ["norm"], "median").empty


def test_the_mean_decides_unless_the_median_is_asked_for() -> None:
    m = runs({("ln", 0.1): [1.0, 1.0, 9.0], ("ln", 0.2): [2.0, 2.0, 2.0]})
    assert set(best_by(m, "best_val_loss", "lr", ["norm"])["lr"]) == {0.2}
    assert set(best_by(m, "best_val_loss", "lr", ["norm"], "median")["lr"]) == {0.1}


def test_rows_that_have_no_rate_stay() -> None:
    m = pd.concat([runs({("ln", 0.1): [1.0], ("ln", 0.2): [2.0]}), runs({("none", math.nan): [3.0]})])
    chosen = best_by(m, "best_val_loss", "lr", ["norm"])
    assert chosen["norm"].tolist() == ["ln", "ln", "none", "none"]


def table(**values: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"layers": 1, "norm": norm, "seed": seed, "quantity": quantity, "value": value}
            for name, column in values.items()
            for norm, _, quantity in [name.partition("_")]
            for seed, value in enumerate(column)
        ]
    )


def test_values_are_paired_by_seed() -> None:
    m = table(none_loss=[3.0, 5.0, 7.0], ln_loss=[1.0, 4.0], bn_loss=[3.5])
    found = paired(m, "loss", "none", "gain", how=lambda norm, none: none - norm)
    assert found[["norm", "seed", "value"]].to_numpy().tolist() == [["ln", 0, 2.0], ["ln", 1, 1.0], ["bn", 0, -0.5]]
    assert set(found["quantity"]) == {"gain"}


def test_another_quantity_may_be_the_reference() -> None:
    m = table(none_seconds=[8.0, 9.0], none_steps=[2.0, 3.0], ln_seconds=[6.0])
    found = paired(m, "seconds", {"quantity": "steps"}, "step_time", operator.truediv)
    assert found["value"].tolist() == [4.0, 3.0]
    assert set(found["norm"]) == {"none"}


def test_conditions_that_are_missing_agree() -> None:
    m = table(none_loss=[3.0], ln_loss=[1.0]).assign(gain=math.nan)
    assert paired(m, "loss", "none", "excess")["value"].tolist() == [-2.0]


def test_without_a_reference_nothing_is_paired() -> None:
    assert paired(table(ln_loss=[1.0]), "loss", "none", "gain").empty


def test_a_quantity_is_mapped() -> None:
    found = mapped(table(ln_loss=[1.0, 4.0], ln_steps=[7.0]), "loss", "root", lambda rows: rows["value"] ** 0.5)
    assert found["value"].tolist() == [1.0, 2.0]
    assert found["quantity"].tolist() == ["root", "root"]
    assert mapped(found, "loss", "root", lambda rows: rows["value"] ** 0.5).empty


def test_each_seed_has_the_level_that_the_others_choose() -> None:
    m = runs({("ln", 0.1): [5.0, 1.0, 1.0], ("ln", 0.2): [0.0, 2.0, 2.0], ("none", 0.1): [4.0, 4.0, 4.0]})
    rows = m[m["quantity"] == "learned"]
    least, greatest = by_others(rows, "lr", ["norm"]), by_others(rows, "lr", ["norm"], greatest=True)
    assert least.set_index(["norm", "seed"])["lr"].to_dict() == {
        ("ln", 0): 0.1,  # the others' best, though its own is 0.2
        ("ln", 1): 0.2,
        ("ln", 2): 0.2,
        ("none", 0): 0.1,
        ("none", 1): 0.1,
        ("none", 2): 0.1,
    }
    assert greatest["value"].tolist()[0] == 0.0
    assert by_others(rows[rows["seed"] == 0], "lr", ["norm"])["value"].tolist() == [0.0, 4.0]


def test_noise_makes_no_spread_between_levels_that_others_choose() -> None:
    noise = np.random.default_rng(0).normal(size=(80, 5, 3))
    chosen, own = [], []
    for levels in noise:
        m = runs({("ln", float(rate)): list(values) for rate, values in enumerate(levels)})
        rows = m[m["quantity"] == "learned"]
        ends = [by_others(rows, "lr", ["norm"], greatest)["value"] for greatest in (True, False)]
        chosen.append((ends[0] - ends[1]).mean())
        own.append((levels.max(0) - levels.min(0)).mean())
    assert abs(np.mean(chosen)) < 3 * np.std(chosen) / 80**0.5
    assert np.mean(own) > 2


def test_a_reference_with_another_best_rate_is_a_reference() -> None:
    m = pd.DataFrame(
        {"quantity": "loss", "norm": norm, "seed": seed, "lr": rate, "value": value + seed}
        for norm, rate, value in (("none", 0.1, 3.0), ("ln", 0.4, 1.0), ("wn", 0.1, 2.0))
        for seed in (0, 1)
    )
    assert set(paired(m, "loss", "none", "gain")["norm"]) == {"wn"}
    found = paired(m, "loss", "none", "gain", apart="lr")
    assert sorted(zip(found["norm"], found["lr"], found["value"], strict=True)) == [
        ("ln", 0.4, -2.0), ("ln", 0.4, -2.0), ("wn", 0.1, -1.0), ("wn", 0.1, -1.0)
    ]  # fmt: skip
