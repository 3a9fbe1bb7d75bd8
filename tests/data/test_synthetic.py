from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch

from rnnnorm.data import AddingProblem, DelayedRecall, TemporalOrder
from rnnnorm.data.lengths import LengthDistribution, sample_lengths
from rnnnorm.data.synthetic import Generated

PROBLEMS = [AddingProblem, DelayedRecall, TemporalOrder]
DISTRIBUTIONS: tuple[LengthDistribution, ...] = get_args(LengthDistribution)
SMALL: dict[str, Any] = {"num_train": 300, "num_val": 50, "num_test": 50}

problems = pytest.mark.parametrize("problem", PROBLEMS)


def lengths_of(distribution: LengthDistribution, low: int = 10, high: int = 100) -> list[int]:
    return sample_lengths(distribution, 20_000, low, high, np.random.default_rng(0)).tolist()


@pytest.mark.parametrize(
    ("distribution", "minimum", "median", "p95", "maximum"),
    [("fixed", 100, 100, 100, 100), ("uniform", 10, 55, 96, 100), ("heavy-tailed", 10, 18, 69, 100)],
)
def test_length_distributions(
    distribution: LengthDistribution, minimum: int, median: int, p95: int, maximum: int
) -> None:
    lengths = lengths_of(distribution)
    assert (min(lengths), max(lengths)) == (minimum, maximum)
    assert np.median(lengths) == pytest.approx(median, abs=1)
    assert np.percentile(lengths, 95) == pytest.approx(p95, abs=2)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_one_possible_length(distribution: LengthDistribution) -> None:
    assert set(lengths_of(distribution, 7, 7)) == {7}


@problems
def test_default_lengths_are_ragged(problem: type[Generated]) -> None:
    data = problem(**SMALL)
    assert len(set(data.lengths("train"))) > 30
    assert data.spec.max_length == max(data.lengths("train"))


@problems
def test_splits_have_their_sizes_and_are_different(problem: type[Generated]) -> None:
    data = problem(num_train=30, num_val=20, num_test=10)
    assert [len(data.lengths(split)) for split in ("train", "val", "test")] == [30, 20, 10]
    first = {split: data.examples(split)[0][0] for split in ("train", "val", "test")}
    assert not torch.equal(first["train"][:8], first["val"][:8])
    assert not torch.equal(first["val"][:8], first["test"][:8])


@problems
def test_the_seed_fixes_every_example(problem: type[Generated]) -> None:
    def test_split(**keys: Any) -> torch.Tensor:
        return torch.cat([rows for rows, _ in problem(**(SMALL | keys)).examples("test")])

    assert torch.equal(test_split(), test_split())
    assert torch.equal(test_split(), test_split(num_train=10, num_val=1, batch_size=7)), "sizes of other splits"
    assert not torch.equal(test_split(length_distribution="fixed"), test_split(length_distribution="fixed", seed=1))


@problems
def test_rows_fit_the_spec(problem: type[Generated]) -> None:
    data = problem(**SMALL)
    for rows, target in data.examples("train"):
        if data.spec.vocabularies:
            assert rows.shape == (len(rows), len(data.spec.vocabularies))
            assert rows.dtype == torch.int64
            assert 0 <= rows.min() <= rows.max() < data.spec.vocabularies[0]
        else:
            assert rows.shape == (len(rows), data.spec.num_features)
            assert rows.dtype == torch.float32
        shape = {"regression": (data.spec.num_outputs,), "tagging": (len(rows),), "classification": ()}[data.task]
        assert target.shape == shape
        if data.task != "regression":
            assert 0 <= target.min() <= target.max() < data.spec.num_outputs


@pytest.mark.parametrize("length", [2, 3, 51])
def test_adding_problem(length: int) -> None:
    data = AddingProblem(**SMALL, length_distribution="fixed", max_length=length)
    marked = set()
    for rows, target in data.examples("train"):
        values, markers = rows.T
        first, second = markers.nonzero().flatten().tolist()
        assert 0 <= first < length // 2 <= second < length
        assert sorted(markers.unique().tolist()) == ([1.0] if length == 2 else [0.0, 1.0])
        assert target.item() == pytest.approx(values[first].item() + values[second].item())
        assert 0 <= values.min() <= values.max() < 1
        marked |= {first, second}
    assert marked == set(range(length))


def test_adding_problem_at_chance_level() -> None:
    targets = torch.cat([target for _, target in AddingProblem(num_train=20_000).examples("train")])
    assert (targets - 1).square().mean().item() == pytest.approx(1 / 6, abs=0.005)


def test_delayed_recall() -> None:
    data = DelayedRecall(num_recall=3, num_symbols=5, **SMALL, min_length=7, max_length=40)
    assert data.spec.vocabularies == (7,)
    assert data.spec.num_outputs == 6
    blank, go = 5, 6
    seen = set()
    for rows, target in data.examples("train"):
        tokens = rows.flatten().tolist()
        length = len(tokens)
        assert tokens[3:] == [blank] * (length - 7) + [go] + [blank] * 3
        assert target.tolist() == [blank] * (length - 3) + tokens[:3]
        seen |= set(tokens[:3])
    assert seen == set(range(5))
    assert min(data.lengths("train")) == 7


@pytest.mark.parametrize("num_relevant", [2, 3])
def test_temporal_order(num_relevant: int) -> None:
    data = TemporalOrder(num_relevant, **SMALL)
    assert data.spec.num_outputs == 2**num_relevant
    classes = set()
    for rows, target in data.examples("train"):
        symbols = "".join(TemporalOrder.SYMBOLS[token] for token in rows.flatten())
        assert symbols[0] == "E"
        assert symbols[-1] == "B"
        assert set(symbols[1:-1]) <= set("abcdXY")
        relevant = [(place, symbol) for place, symbol in enumerate(symbols) if symbol in "XY"]
        assert len(relevant) == num_relevant
        assert int("".join(str("XY".index(symbol)) for _, symbol in relevant), 2) == target.item()
        for (place, _), fraction in zip(relevant, TemporalOrder.PLACES[num_relevant], strict=True):
            assert int(fraction * len(symbols)) <= place <= (fraction + 0.1) * len(symbols)
        classes.add(target.item())
    assert classes == set(range(2**num_relevant))


@pytest.mark.parametrize(("num_relevant", "ranges"), [(2, [(10, 21), (50, 65)]), (3, [(10, 21), (33, 47), (66, 83)])])
def test_temporal_order_at_the_lengths_of_the_original(num_relevant: int, ranges: list[tuple[int, int]]) -> None:
    data = TemporalOrder(num_relevant, length_distribution="uniform", min_length=100, max_length=110)
    symbols = [TemporalOrder.SYMBOLS.index(symbol) for symbol in "XY"]
    places = np.array([np.flatnonzero(np.isin(rows.flatten(), symbols)) for rows, _ in data.examples("train")])
    for column, (low, high) in zip(places.T, ranges, strict=True):
        assert column.min() == low
        assert high - 2 <= column.max() <= high
