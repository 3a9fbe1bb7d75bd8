"""The generated source: its targets, its streams."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rnnnorm.studies.data.running_order import RunningOrder, RunningOrderStream, last_two


def by_hand(tokens: list[int], first_mark: int) -> list[int]:
    before, last, classes = 0, 0, []
    for token in tokens:
        if token >= first_mark:
            before, last = last, token - first_mark
        classes.append(2 * before + last)
    return classes


def test_the_target_is_the_pair_of_the_last_two_marks() -> None:
    assert last_two(np.array([0, 5, 1, 4, 5, 5, 2]), 4).tolist() == [0, 1, 1, 2, 1, 3, 3]


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.95])
def test_targets_agree_with_a_loop(rate: float) -> None:
    data = RunningOrder(rate=rate, num_noise=3, num_train=20, num_val=1, num_test=1, min_length=1, max_length=50)
    for tokens, classes in data.examples("train"):
        assert classes.tolist() == by_hand(tokens[:, 0].tolist(), 3)


def test_marks_come_at_their_rate() -> None:
    data = RunningOrder(rate=0.2, num_train=200, num_val=1, num_test=1, length_distribution="fixed", max_length=100)
    tokens = torch.cat([tokens for tokens, _ in data.examples("train")])
    assert (tokens >= 4).double().mean() == pytest.approx(0.2, abs=0.01)
    assert set(tokens.unique().tolist()) == set(range(6))


def test_batches_of_a_stream_continue_each_other() -> None:
    data = RunningOrderStream(bptt=5, segments=4, eval_segments=2, batch_size=3)
    batches = list(data.train_dataloader())
    assert [batch.continues for batch in batches] == [False, True, True, True]
    joined = torch.cat([batch.input.data.view(5, 3) for batch in batches])
    targets = torch.cat([batch.target.view(5, 3) for batch in batches])
    for stream in range(3):
        assert targets[:, stream].tolist() == by_hand(joined[:, stream].tolist(), 4)
    assert data.spec.max_length == 5


def test_splits_differ_and_seeds_do_too() -> None:
    def tokens(seed: int, split: str) -> torch.Tensor:
        return RunningOrderStream(bptt=20, segments=1, eval_segments=1, batch_size=4, seed=seed).examples(split)[0][0]

    assert torch.equal(tokens(0, "train"), tokens(0, "train"))
    assert not torch.equal(tokens(0, "train"), tokens(1, "train"))
    assert not torch.equal(tokens(0, "val"), tokens(0, "test"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rate": 0.0}, r"rate must be a number in \(0, 1\), got 0"),
        ({"rate": 1.0}, r"rate must be a number in \(0, 1\), got 1"),
        ({"num_noise": 0}, "num_noise must be an integer of at least 1, got 0"),
    ],
    ids=str,
)
def test_bad_keys_are_refused(keys: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunningOrder(**keys)


def test_a_stream_without_segments_is_refused() -> None:
    with pytest.raises(ValueError, match="segments must be an integer of at least 1, got 0"):
        RunningOrderStream(segments=0)
