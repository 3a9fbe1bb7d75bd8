"""Other splits, other batches, other first symbols of the same data."""

from __future__ import annotations

import pytest

from rnnnorm.data import TemporalOrder
from rnnnorm.engine.evaluation import batch_lengths
from rnnnorm.studies.data.rearranged import MixedBatchSampler, Rearranged, tail_start
from rnnnorm.studies.data.unframed import UnframedTemporalOrder


def data(**keys: int) -> TemporalOrder:
    return TemporalOrder(
        **{"num_train": 320, "num_val": 64, "num_test": 64, "max_length": 60, "batch_size": 32, **keys}
    )


def sequences(module: TemporalOrder | Rearranged, split: str) -> list[tuple[int, ...]]:
    return [tuple(rows.flatten().tolist()) for rows, _ in module.examples(split)]


@pytest.mark.parametrize(
    ("lengths", "share", "start"),
    [([5] * 8, 1 / 16, 5), ([9] + [3] * 15, 1 / 16, 9), ([9] + [3] * 16, 1 / 16, 3), ([1, 2, 3, 4], 0.5, 3)],
)
def test_tail_start(lengths: list[int], share: float, start: int) -> None:
    assert tail_start(lengths, share) == start
    left = [sum(length > t for length in lengths) / len(lengths) for t in range(max(lengths) + 1)]
    assert left[start] < share <= left[start - 1]


@pytest.mark.parametrize(("lengths", "share", "message"), [([], 0.1, "empty"), ([1], 0, "share"), ([1], 1.1, "share")])
def test_tail_start_refuses(lengths: list[int], share: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tail_start(lengths, share)


def test_mixed_batches_hold_each_sequence_once_whatever_its_length() -> None:
    lengths = list(range(1, 101))
    plan = MixedBatchSampler(lengths, 16, seed=3)
    batches = plan.batches(0)
    assert sorted(k for batch in batches for k in batch) == list(range(100))
    assert len(batches) == len(plan) == 7
    assert all(max(lengths[k] for k in batch) - min(lengths[k] for k in batch) > 40 for batch in batches[:6])
    assert plan.batches(1) != batches
    still = MixedBatchSampler(lengths, 16, shuffle=False, seed=3)
    assert still.batches(0) == still.batches(5)


def test_mixed_batches_are_dealt_out_to_processes() -> None:
    parts = [MixedBatchSampler(list(range(1, 11)), 2, num_replicas=3, rank=rank).batches(0) for rank in range(3)]
    assert {len(part) for part in parts} == {2}
    assert {k for part in parts for batch in part for k in batch} == set(range(10))


def test_the_tail_becomes_thin_and_nothing_is_lost() -> None:
    whole, thin = data(), Rearranged(data(), split="tail", share=0.1)
    start = tail_start(whole.lengths("train"))
    reaching = sum(length > start for length in whole.lengths("train"))
    assert sum(length > start for length in thin.lengths("train")) == max(round(0.1 * reaching), 1)
    assert max(thin.lengths("val")) <= start
    everything = [sorted(s for split in ("train", "val", "test") for s in sequences(m, split)) for m in (whole, thin)]
    assert everything[0] == everything[1]
    assert set(sequences(whole, "test")) <= set(sequences(thin, "test"))
    assert thin.spec.max_length == max(thin.lengths("train"))


def test_loaders() -> None:
    similar, mixed = (Rearranged(data(), batches=batches, shuffle_seed=5) for batches in ("similar", "mixed"))
    assert mixed.data.shuffle_seed == 5
    spread = []
    for module in (similar, mixed):
        batches = [batch_lengths(batch.input.batch_sizes) for batch in module.train_dataloader()]
        assert sum(len(lengths) for lengths in batches) == 320
        spread.append(sum(float(lengths.double().std()) for lengths in batches))
    assert spread[1] > 2 * spread[0]
    assert len(list(mixed.val_dataloader())) == len(list(mixed.test_dataloader())) == 2


@pytest.mark.parametrize("keys", [{"split": "head"}, {"batches": "sorted"}, {"share": 1.0}, {"shuffle_seed": -1}])
def test_refused(keys: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(keys))):
        Rearranged(data(), **keys)


def test_a_split_without_short_sequences_is_refused() -> None:
    module = data()
    longest = max(module.examples("train"), key=lambda example: len(example[0]))
    module.splits["val"] = [longest]
    with pytest.raises(ValueError, match="no sequence of the val split is shorter"):
        _ = Rearranged(module, split="tail").splits


def test_only_the_first_and_last_symbols_are_others() -> None:
    keys = {"num_train": 50, "num_val": 2, "num_test": 2}
    original, unframed = TemporalOrder(**keys), UnframedTemporalOrder(**keys)
    firsts, lasts = set(), set()
    for (rows, target), (others, same) in zip(original.examples("train"), unframed.examples("train"), strict=True):
        assert rows[1:-1].equal(others[1:-1])
        assert target == same
        firsts.add(int(others[0]))
        lasts.add(int(others[-1]))
    assert firsts == lasts == set(range(4))
