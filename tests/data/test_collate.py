from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from rnnnorm.data.base import Task
from rnnnorm.data.collate import Example, collate

LENGTHS = [3, 7, 1, 7, 4]


def rows(length: int, kind: str) -> Tensor:
    return torch.randint(9, (length, 2)) if kind == "tokens" else torch.randn(length, 3)


@pytest.mark.parametrize("kind", ["tokens", "features"])
@pytest.mark.parametrize("lengths", [LENGTHS, [1], [5, 5, 5], [1, 1], [9, 1]], ids=str)
def test_packing_equals_pack_sequence(lengths: list[int], kind: str) -> None:
    sequences = [rows(length, kind) for length in lengths]
    targets = [torch.tensor(i) for i in range(len(lengths))]
    batch = collate(list(zip(sequences, targets, strict=True)), "classification")
    expected = pack_sequence(sorted(sequences, key=len, reverse=True))
    assert torch.equal(batch.input.data, expected.data)
    assert torch.equal(batch.input.batch_sizes, expected.batch_sizes)
    assert batch.input.data.dtype == sequences[0].dtype
    assert batch.input.sorted_indices is None
    assert batch.continues is False


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_targets_of_sequences_follow_their_sequence(task: Task) -> None:
    def target(length: int) -> Tensor:
        return torch.tensor(length) if task == "classification" else torch.tensor([float(length), -1.0])

    batch = collate([(rows(length, "features"), target(length)) for length in LENGTHS], task)
    lengths = pad_packed_sequence(batch.input)[1]
    assert torch.equal(batch.target, torch.stack([target(int(length)) for length in lengths]))


@pytest.mark.parametrize("task", ["tagging", "language-modelling", "multi-label"])
def test_targets_of_rows_follow_their_row(task: Task) -> None:
    def example(length: int) -> Example:
        features = rows(length, "features")
        return features, (features > 0).float() if task == "multi-label" else (features[:, 0] * 100).long()

    batch = collate([example(length) for length in LENGTHS], task)
    features = batch.input.data
    assert torch.equal(batch.target, (features > 0).float() if task == "multi-label" else (features[:, 0] * 100).long())


def test_equal_lengths_keep_their_order() -> None:
    batch = collate([(rows(4, "tokens"), torch.tensor(i)) for i in range(6)], "classification")
    assert batch.target.tolist() == list(range(6))


def test_an_empty_sequence_is_named() -> None:
    examples = [(rows(length, "tokens"), torch.tensor(0)) for length in (3, 2, 0, 4)]
    with pytest.raises(ValueError, match="sequence 2 of the 4 in this batch has no rows"):
        collate(examples, "classification")


@pytest.mark.parametrize("target", [torch.tensor(1), torch.zeros(2)], ids=["one target", "too few"])
def test_a_missing_target_is_named(target: Tensor) -> None:
    with pytest.raises(ValueError, match=r"sequence 1 of this batch has 3 rows and targets of shape \((2,)?\)"):
        collate([(rows(5, "tokens"), torch.zeros(5)), (rows(3, "tokens"), target)], "tagging")


def test_no_sequences_are_no_batch() -> None:
    with pytest.raises(ValueError, match="no sequences"):
        collate([], "tagging")


def test_a_batch_survives_pickling() -> None:
    batch = collate([(rows(length, "features"), torch.tensor(length)) for length in LENGTHS], "classification")
    again = pickle.loads(pickle.dumps(batch))
    assert torch.equal(again.input.data, batch.input.data)
    assert torch.equal(again.target, batch.target)
