"""Sentences: means, lists, what is missing, divergence."""

from __future__ import annotations

import math

import pandas as pd

from rnnnorm.studies.framework import Best, Sentence, first
from rnnnorm.studies.framework.selection import signed
from rnnnorm.studies.framework.sentence import divergence

WORDS = {"data": {"made": "made data"}, "loss": lambda loss: "low" if loss < 2 else "high"}


def table() -> pd.DataFrame:
    rows = [
        {"data": data, "norm": norm, "seed": seed, "quantity": quantity, "value": value + seed}
        for data in ("made", "real")
        for norm, score in (("none", 2.0), ("ln", 1.0), ("bn", 3.0))
        for quantity, value in (("score", score), ("loss", 4 - score))
        for seed in (0, 1)
        if (data, norm, quantity) != ("real", "bn", "loss")
    ]
    return pd.DataFrame(rows)


def test_columns_are_said_in_words_and_quantities_as_means() -> None:
    sentence = Sentence("On {data} {norm} reaches {score:.2f}.", by=("data", "norm"), only={"norm": ("ln",)})
    assert list(sentence.said(table(), WORDS)) == ["On made data ln reaches 1.50.", "On real ln reaches 1.50."]


def test_words_of_a_quantity_depend_on_its_mean() -> None:
    sentence = Sentence("{norm}: {loss}", by=("norm",), only={"data": "made"})
    assert list(sentence.said(table(), WORDS)) == ["none: high", "ln: high", "bn: low"]


def test_a_sentence_without_its_numbers_is_left_out() -> None:
    sentence = Sentence("{data} {norm} {loss} {score:.0f}", by=("data", "norm"), only={"norm": "bn"})
    assert list(sentence.said(table(), WORDS)) == ["made data bn low 4"]
    m = table()
    m["value"] = math.inf
    assert list(sentence.said(m, WORDS)) == []


def test_items_are_listed_in_order() -> None:
    said = Sentence("{count}: {items}; {first}, {last}", only={"data": first}, items="{norm} {score:.1f}")
    assert list(said.said(table(), WORDS)) == ["3: none 2.5, ln 1.5, bn 3.5; none 2.5, bn 3.5"]
    up = Sentence("{items}", only={"data": first}, items="{norm} {score:.1f}", rising=True)
    assert list(up.said(table(), WORDS)) == ["ln 1.5, none 2.5, bn 3.5"]
    down = Sentence("{first} {last}", only={"data": first}, items="{norm}{score:.1f}", rising=False)
    assert list(down.said(table(), WORDS)) == ["bn3.5 ln1.5"]


def test_too_few_items_are_no_list() -> None:
    m = table()
    sentence = Sentence("{items}", by=("data",), items="{norm} {loss}", least=3)
    assert list(sentence.said(m, WORDS)) == ["none high, ln high, bn low"]


def test_the_best_of_each_condition_is_named_by_who_wins() -> None:
    said = Best("score", "score in points", at="on {data}").said(table(), WORDS)
    assert list(said) == ["Best of all by score in points: `ln` on made data (1.5), on real (1.5)."]
    said = Best("loss", "loss", "{norm}", "on {data}", greatest=True).said(table(), WORDS)
    assert list(said) == ["Best of all by loss: ln on made data (3.5), on real (3.5)."]


def test_a_runner_up_that_the_seeds_do_not_tell_apart_is_named() -> None:
    m = table()
    m.loc[(m["norm"] == "none") & (m["seed"] == 0), "value"] = 0.9
    said = Best("score", "score", only={"data": "made"}).said(m, WORDS)
    assert list(said) == ["Best of all by score: `ln` (1.5; `none` may be as good)."]


def test_what_diverged_is_not_the_best() -> None:
    m = table()
    m.loc[(m["norm"] == "ln") & (m["seed"] == 1), "value"] = math.inf
    said = Best("score", "score", only={"data": "made"}).said(m, WORDS)
    assert list(said) == ["Best of all by score: `none` (2.5)."]


def test_one_alone_is_not_the_best_of_all() -> None:
    assert list(Best("score", "score", only={"norm": "ln", "data": "made"}).said(table(), WORDS)) == []


def test_numbers_have_a_minus_sign_and_zero_has_none() -> None:
    assert [signed(text) for text in ("-0.25", "+1.5", "1e-05", "-0.000", "-0", "-0%", "2e+05")] == [
        "−0.25", "+1.5", "1e−5", "0.000", "0", "0%", "2e5",
    ]  # fmt: skip


def test_divergence_is_told() -> None:
    m = pd.DataFrame({"norm": ["ln", "bn", "bn", "ln"], "quantity": "diverged", "value": [0.0, 1.0, 1.0, 1.0]})
    assert list(divergence(m)) == ["3 of 4 trainings diverged: bn (2), ln (1)."]
    assert list(divergence(m.assign(value=0.0))) == []


def test_divergence_is_told_with_how_it_counts() -> None:
    m = pd.DataFrame({"norm": ["ln", "wn", "wn"], "seed": 0, "quantity": "diverged", "value": [0.0, 1.0, 1.0]})
    assert [*divergence(m)] == ["2 of 3 trainings diverged: wn (2)."]
    assert [*divergence(m, "count as guessing")] == ["2 of 3 trainings diverged and count as guessing: wn (2)."]
    told = divergence(m.assign(cell="lstm"), by="{cell}, {norm}", words={"cell": {"lstm": "LSTM"}})
    assert [*told] == ["2 of 3 trainings diverged: LSTM, wn (2)."]
    assert [*divergence(m[m["norm"] == "ln"], "count as guessing")] == []
