from __future__ import annotations

import numpy as np
import pytest

from rnnnorm.data.sampler import InOrder, LengthBucketBatchSampler


def skewed_lengths(count: int, seed: int = 0) -> list[int]:
    """Lengths like those of English sentences: median 14, 95 % below 40, a long tail."""
    random = np.random.default_rng(seed)
    return np.clip(random.lognormal(np.log(14), 0.7, count), 1, 160).astype(int).tolist()


def padding_share(lengths: list[int], batches: list[list[int]]) -> float:
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    return 1 - sum(lengths[i] for batch in batches for i in batch) / padded


@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "sorted"])
@pytest.mark.parametrize("count", [1, 31, 32, 1000, 6413])
def test_every_example_comes_once(count: int, shuffle: bool) -> None:
    sampler = LengthBucketBatchSampler(skewed_lengths(count), 32, shuffle=shuffle)
    batches = list(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    assert len(batches) == len(sampler) == -(-count // 32)
    assert sorted(len(batch) for batch in batches)[1:] == [32] * (len(batches) - 1)


@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "sorted"])
def test_padding_stays_below_a_tenth(shuffle: bool) -> None:
    lengths = skewed_lengths(12544)
    at_random = np.random.default_rng(0).permutation(len(lengths)).reshape(-1, 32).tolist()
    assert padding_share(lengths, at_random) > 0.4
    assert padding_share(lengths, list(LengthBucketBatchSampler(lengths, 32, shuffle=shuffle))) < 0.1


def test_order_is_a_function_of_seed_and_epoch() -> None:
    lengths = skewed_lengths(500)

    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = LengthBucketBatchSampler(lengths, 8, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 1) != order(1, 0)


def test_order_does_not_depend_on_the_global_random_streams() -> None:
    sampler = LengthBucketBatchSampler(skewed_lengths(500), 8)
    first = list(sampler)
    np.random.seed(12345)
    assert list(sampler) == first


def test_long_and_short_batches_alternate() -> None:
    lengths = skewed_lengths(3200)
    longest = [max(lengths[i] for i in batch) for batch in LengthBucketBatchSampler(lengths, 32)]
    assert longest != sorted(longest)
    assert abs(float(np.corrcoef(longest, np.arange(len(longest)))[0, 1])) < 0.3


def test_without_shuffling_the_order_is_fixed_and_ascending() -> None:
    lengths = skewed_lengths(500)
    sampler = LengthBucketBatchSampler(lengths, 8, shuffle=False)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) == first
    assert [lengths[i] for batch in first for i in batch] == sorted(lengths)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("count", "ranks"), [(1000, 2), (1001, 2), (997, 3), (3, 4)])
def test_processes_share_the_examples(count: int, ranks: int, drop_last: bool) -> None:
    lengths = skewed_lengths(count)
    if drop_last and count < 8 * ranks:
        with pytest.raises(ValueError, match="make no batch"):
            LengthBucketBatchSampler(lengths, 8, drop_last=True, num_replicas=ranks, rank=0)
        return
    batches = [
        list(LengthBucketBatchSampler(lengths, 8, drop_last=drop_last, num_replicas=ranks, rank=rank))
        for rank in range(ranks)
    ]
    sizes = [[len(batch) for batch in own] for own in batches]
    assert all(own == sizes[0] for own in sizes)
    dealt = [index for own in batches for batch in own for index in batch]
    if drop_last:
        assert len(dealt) == len(set(dealt)) == count - count % (8 * ranks)
    else:
        assert set(dealt) == set(range(count))
        assert len(dealt) - count == -count % ranks


def test_processes_work_on_similar_lengths_at_the_same_time() -> None:
    lengths = skewed_lengths(4000)
    one, other = (list(LengthBucketBatchSampler(lengths, 32, num_replicas=2, rank=rank)) for rank in (0, 1))
    joint = [a + b for a, b in zip(one, other, strict=True)]
    assert padding_share(lengths, joint) < 0.15


def test_start_leaves_out_the_first_batches() -> None:
    sampler = LengthBucketBatchSampler(skewed_lengths(100), 8)
    whole = list(sampler)
    sampler.start = 5
    assert list(sampler) == whole[5:]
    assert len(sampler) == 13


@pytest.mark.parametrize(
    ("lengths", "batch_size", "drop_last", "message"),
    [([], 4, False, "0 sequences"), ([3, 4], 0, False, "batch_size is 0"), ([3, 4], 4, True, "under drop_last")],
    ids=["no sequences", "batch of none", "nothing left"],
)
def test_impossible_batches_are_errors(lengths: list[int], batch_size: int, drop_last: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LengthBucketBatchSampler(lengths, batch_size, drop_last=drop_last)


def test_in_order() -> None:
    sampler = InOrder(5)
    sampler.set_epoch(3)
    sampler.start = 2
    assert list(sampler) == [2, 3, 4]
    assert len(sampler) == 5
