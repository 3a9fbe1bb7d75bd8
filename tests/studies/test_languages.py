"""Running sums and the made-up language: what they say is checked by reading them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from rnnnorm.studies.data.languages import Lexicon, RunningSum

SMALL: dict[str, Any] = {"num_train": 30, "num_val": 2, "num_test": 10, "min_length": 10, "max_length": 40}


@pytest.mark.parametrize("modulus", [2, 3, 5])
def test_targets_are_the_sums_so_far(modulus: int) -> None:
    for rows, sums in RunningSum(modulus=modulus, **SMALL).examples("train"):
        total = 0
        for digit, target in zip(rows[:, 0].tolist(), sums.tolist(), strict=True):
            total = (total + digit) % modulus
            assert target == total


def test_the_rate_is_the_share_of_digits_that_are_not_0() -> None:
    data = RunningSum(modulus=4, rate=0.6, num_train=200, num_val=1, num_test=1, length_distribution="fixed")
    digits = torch.cat([rows[:, 0] for rows, _ in data.examples("train")])
    counts = torch.bincount(digits, minlength=4) / len(digits)
    assert counts.tolist() == pytest.approx([0.4, 0.2, 0.2, 0.2], abs=0.015)


@pytest.mark.parametrize("keys", [{"modulus": 1}, {"rate": 0.0}, {"rate": 1.5}])
def test_sums_that_are_none_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(keys))):
        RunningSum(**SMALL, **keys)


def test_lengths_are_those_that_were_asked_for() -> None:
    for cls in (RunningSum, Lexicon):
        lengths = [len(rows) for rows, _ in cls(**SMALL).examples("train")]
        assert min(lengths) >= 10
        assert max(lengths) <= 40
        assert len(set(lengths)) > 3
        fixed = cls(**SMALL | {"length_distribution": "fixed"})
        assert {len(rows) for rows, _ in fixed.examples("test")} == {40}


def test_letters_are_followed_by_the_next_letter() -> None:
    data = Lexicon(**SMALL)
    assert data.spec.vocabularies == (17,)
    for rows, targets in data.examples("train"):
        assert rows[1:, 0].equal(targets[:-1])
        assert 0 <= int(rows.min()) <= int(targets.max()) <= 16


@pytest.mark.parametrize("keys", [{}, {"num_words": 8, "num_letters": 30, "num_successors": 3}])
def test_text_consists_of_words_that_may_follow_each_other(keys: dict[str, int]) -> None:
    data = Lexicon(**SMALL, **keys)
    words, followers = data.language()
    numbers: dict[tuple[int, ...], set[int]] = {}  # two words may be spelled alike
    for number, word in enumerate(words):
        numbers.setdefault(tuple(word.tolist()), set()).add(number)
        assert 3 <= len(word) <= 7
        assert word[-1] == 0
        assert word[:-1].min() > 0
    allowed = [set(row.tolist()) for row in followers]
    for rows, targets in data.examples("test"):
        text = [*rows[:, 0].tolist(), int(targets[-1])]
        spaces = [k for k, letter in enumerate(text) if letter == 0]
        whole = [tuple(text[a + 1 : b + 1]) for a, b in pairwise(spaces)]
        possible = numbers[whole[0]]
        for word in whole[1:]:
            possible = {n for n in numbers[word] if any(n in allowed[before] for before in possible)}
            assert possible, f"{word} follows no word that may stand before it"


def test_followers_are_different_words_the_first_most_often() -> None:
    data = Lexicon(num_words=5, num_letters=40, num_successors=2, num_train=400, num_val=1, num_test=1)
    words, followers = data.language()
    assert followers.shape == (5, 2)
    assert all(len(set(row)) == 2 for row in followers.tolist())
    names = {tuple(word.tolist()): number for number, word in enumerate(words)}
    assert len(names) == 5  # none spelled alike, so that words can be told apart below
    first = total = 0
    for rows, _ in data.examples("train"):
        text = rows[:, 0].tolist()
        spaces = [k for k, letter in enumerate(text) if letter == 0]
        read = [names[tuple(text[a + 1 : b + 1])] for a, b in pairwise(spaces)]
        total += max(len(read) - 1, 0)
        first += sum(int(followers[a, 0]) == b for a, b in pairwise(read))
    assert first / total == pytest.approx(2 / 3, abs=0.03)  # 1 to 1/2


def test_the_language_belongs_to_the_seed_and_not_to_the_split_or_the_length() -> None:
    long = Lexicon(**SMALL | {"max_length": 400, "num_train": 1})
    short = Lexicon(**SMALL)
    for one, other in zip(long.language()[0], short.language()[0], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(long.language()[1], short.language()[1])
    another = Lexicon(**SMALL, seed=7).language()[1]
    assert not np.array_equal(another, short.language()[1])


def test_words_end_as_often_early_as_late() -> None:
    data = Lexicon(num_train=2000, num_val=1, num_test=1, length_distribution="fixed", max_length=60)
    text = torch.stack([rows[:, 0] for rows, _ in data.examples("train")])
    spaces = (text == 0).double().mean(0)
    early, late = spaces[10:20].mean(), spaces[50:].mean()
    assert float(early) == pytest.approx(float(late), rel=0.05)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"num_words": 1}, "num_words"),
        ({"num_letters": 1}, "num_letters"),
        ({"num_successors": 1}, "num_successors"),
        ({"num_words": 4, "num_successors": 5}, "at most num_words, 4"),
    ],
)
def test_languages_that_are_none_are_refused(keys: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Lexicon(**SMALL, **keys)
