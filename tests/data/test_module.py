from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from rnnnorm.data import DelayedRecall, SequenceDataModule, Spec, TemporalOrder
from rnnnorm.data.base import Task
from rnnnorm.data.collate import Example


class Given(SequenceDataModule):
    """Splits of the given lengths."""

    task: Task = "classification"  # type: ignore[misc]

    def __init__(self, lengths: dict[str, list[int]], **common: Any) -> None:
        super().__init__(**common)
        self.given = lengths
        self.loaded = 0

    def load(self) -> dict[str, list[Example]]:
        self.loaded += 1
        return {
            split: [(torch.zeros(length, 1), torch.tensor(i)) for i, length in enumerate(lengths)]
            for split, lengths in self.given.items()
        }

    @property
    def spec(self) -> Spec:
        return Spec(self.task, num_features=1, num_outputs=100, max_length=self.max_length)


SPLITS = {"train": [3, 9, 4], "val": [5, 2], "test": [11]}


def test_data_are_loaded_once_and_only_when_needed() -> None:
    module = Given(SPLITS)
    assert module.loaded == 0
    assert module.spec.max_length == 9, "the longest training sequence, not the longest of all"
    list(module.train_dataloader())
    list(module.test_dataloader())
    assert module.loaded == 1


def test_each_loader_has_its_split_and_batch_size() -> None:
    module = Given(SPLITS, batch_size=2, eval_batch_size=1)
    sizes = {
        split: [len(batch.target) for batch in loader]
        for split, loader in [
            ("train", module.train_dataloader()),
            ("val", module.val_dataloader()),
            ("test", module.test_dataloader()),
        ]
    }
    assert sorted(sizes["train"]) == [1, 2]
    assert sizes["val"] == [1, 1]
    assert sizes["test"] == [1]
    assert Given(SPLITS, batch_size=2).eval_batch_size == 2


def test_lengths_are_in_the_order_of_the_data() -> None:
    assert Given(SPLITS).lengths("train") == [3, 9, 4]


def test_training_order_changes_with_the_seed_and_evaluation_order_never() -> None:
    def orders(seed: int) -> tuple[list[int], list[int]]:
        module = Given({"train": list(range(1, 30)), "val": list(range(1, 30))}, batch_size=3, seed=seed)
        return tuple(
            [int(i) for batch in loader for i in batch.target]
            for loader in (module.train_dataloader(), module.val_dataloader())
        )  # type: ignore[return-value]

    assert orders(0) == orders(0)
    assert orders(0)[0] != orders(1)[0]
    assert orders(0)[1] == orders(1)[1]


def test_an_unknown_split_lists_those_that_exist() -> None:
    with pytest.raises(KeyError, match=r"no split 'valid': train, val, test exist"):
        Given(SPLITS).lengths("valid")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": [3], "test": []}, "the test split of Given is empty"),
        ({"train": [3, 2, 0]}, "sequence 2 of the train split of Given has no rows"),
    ],
    ids=["empty split", "empty sequence"],
)
def test_empty_data_are_errors(splits: dict[str, list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Given(splits).lengths("train")


@pytest.mark.parametrize("module", [TemporalOrder, DelayedRecall])
def test_batches_train_an_lstm(module: type[SequenceDataModule]) -> None:
    """What the rows and targets say of each other can be learned: the loss falls."""
    data = module(batch_size=64, num_train=1000, max_length=12, length_distribution="uniform")  # type: ignore[call-arg]
    embed = nn.Embedding(data.spec.vocabularies[0], 16)
    lstm = nn.LSTM(16, 32)
    read = nn.Linear(32, data.spec.num_outputs)
    optimizer = torch.optim.Adam([*embed.parameters(), *lstm.parameters(), *read.parameters()], lr=0.02)
    losses = []
    for _ in range(6):
        for batch in data.train_dataloader():
            output, (last, _) = lstm(batch.input._replace(data=embed(batch.input.data.squeeze(1))))
            logits = read(last[-1] if data.task == "classification" else output.data)
            loss = nn.functional.cross_entropy(logits, batch.target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert sum(losses[-16:]) < 0.6 * sum(losses[:16])
