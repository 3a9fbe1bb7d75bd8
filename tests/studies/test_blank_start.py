"""Temporal order after a constant border."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rnnnorm.data import TemporalOrder
from rnnnorm.studies.data.blank_start import BlankStart

E, B, X, Y = (TemporalOrder.SYMBOLS.index(symbol) for symbol in "EBXY")


def blank_start(**keys: Any) -> BlankStart:
    sizes = {"num_train": 50, "num_val": 4, "num_test": 4, "length_distribution": "uniform"}
    return BlankStart(**{**sizes, "min_length": 25, "max_length": 40, "blank": 12, **keys})


def test_all_sequences_begin_with_the_same_border() -> None:
    data = blank_start()
    for split in ("train", "val", "test"):
        for rows, _ in data.examples(split):
            assert (rows[:12] == E).all()
            assert rows[12].item() == E  # where temporal order itself begins
            assert (rows[13:] != E).all()
            assert rows[-1].item() == B
            assert rows.shape[1] == 1


def test_after_the_border_inputs_differ() -> None:
    start = torch.stack([rows[:25, 0] for rows, _ in blank_start().examples("train")])
    variance = start.double().var(0)
    assert (variance[:13] == 0).all()
    assert (variance[13:24] > 0).all()


@pytest.mark.parametrize("num_relevant", [2, 3])
def test_the_problem_lies_in_the_steps_after_it(num_relevant: int) -> None:
    """The relevant symbols, read off the steps after the border, are the class; their places are those of the rest."""
    for rows, target in blank_start(num_relevant=num_relevant).examples("train"):
        inner = rows[12:, 0]
        places = ((inner == X) | (inner == Y)).nonzero().flatten().tolist()
        assert len(places) == num_relevant
        digits = "".join(str(int(inner[place] == Y)) for place in places)
        assert int(digits, 2) == int(target)
        for place, fraction in zip(places, TemporalOrder.PLACES[num_relevant], strict=True):
            assert fraction * len(inner) - 1 < place <= (fraction + 0.1) * len(inner)


def test_lengths_include_the_border() -> None:
    lengths = blank_start(num_train=300).lengths("train")
    assert min(lengths) >= 25
    assert max(lengths) <= 40
    assert len(set(lengths)) > 10
    fixed = blank_start(length_distribution="fixed", max_length=30)
    assert set(fixed.lengths("train")) == {30}
    assert fixed.spec.max_length == 30


def test_without_a_border_it_is_temporal_order() -> None:
    keys = {"num_train": 20, "num_val": 2, "num_test": 2, "max_length": 30, "length_distribution": "fixed", "seed": 3}
    mine, plain = BlankStart(blank=0, **keys), TemporalOrder(**keys)
    for (rows, target), (same, equal) in zip(mine.examples("train"), plain.examples("train"), strict=True):
        assert torch.equal(rows, same)
        assert torch.equal(target, equal)
    assert mine.spec == plain.spec


def test_sequences_depend_on_their_seed_alone() -> None:
    torch.manual_seed(4)
    np.random.seed(4)
    first, again, other = (
        [rows.flatten().tolist() for rows, _ in blank_start(seed=s).examples("train")] for s in (0, 0, 1)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"blank": -1}, "blank must be an integer of at least 0, got -1"),
        ({"blank": 16}, "min_length must be an integer of at least 26, got 25"),
        ({"blank": 31, "length_distribution": "fixed"}, "max_length must be an integer of at least 41, got 40"),
        ({"num_relevant": 4}, "num_relevant must be one of 2, 3, got 4"),
    ],
    ids=str,
)
def test_impossible_sizes_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        blank_start(**keys)


def test_the_tightest_border_leaves_ten_steps() -> None:
    assert min(blank_start(blank=15).lengths("train")) >= 25
