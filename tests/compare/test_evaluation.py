"""Buckets and length summaries."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import LightningDataModule
from torch import nn

from rnnnorm import LSTM
from rnnnorm.data import LanguageModel, TemporalOrder
from rnnnorm.engine.evaluation import batch_lengths, edges, length_summary, stored_statistics, summary_of
from rnnnorm.engine.records import write_json


@pytest.mark.parametrize(
    ("places", "number", "expected"),
    [
        ([1, 2, 3, 4, 5, 6], 3, [(1, 2), (3, 4), (5, 6)]),
        ([7, 7, 7, 7], 6, [(7, 7)]),
        ([1, 1, 1, 1, 1, 9], 6, [(1, 1), (9, 9)]),
        ([5], 6, [(5, 5)]),
        ([3, 1, 2], 6, [(1, 1), (2, 2), (3, 3)]),
    ],
)
def test_edges(places: list[int], number: int, expected: list[tuple[int, int]]) -> None:
    assert edges(np.array(places), number) == expected


def test_edges_cover_every_value_once_in_parts_of_about_equal_counts() -> None:
    places = np.random.default_rng(0).integers(1, 200, size=3000)
    found = edges(places)
    assert len(found) == 6
    counts = [int(((places >= low) & (places <= high)).sum()) for low, high in found]
    assert sum(counts) == 3000
    assert min(counts) > 400
    assert all(high < low for (_, high), (low, _) in pairwise(found))


def test_lengths_of_a_packed_batch() -> None:
    lengths = torch.tensor([5, 3, 3, 1])
    packed = nn.utils.rnn.pack_padded_sequence(torch.zeros(5, 4, 2), lengths)
    assert batch_lengths(packed.batch_sizes).tolist() == lengths.tolist()


def test_a_split_that_is_not_there_has_no_lengths() -> None:
    assert length_summary(LightningDataModule(), "val") == {}
    assert summary_of([]) == {}


def test_length_summary_of_sequences_and_of_a_stream(tmp_path: Path) -> None:
    data = TemporalOrder(num_train=50, num_test=20, min_length=10, max_length=40)
    assert length_summary(data, "train") == summary_of(data.lengths("train"))
    assert length_summary(data, "test") == summary_of(data.lengths("test"))
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("a b c d e f g h\n" * 10)
    stream = LanguageModel("folder", folder=str(tmp_path), mode="stream", bptt=4, batch_size=2)
    assert length_summary(stream, "train")["max"] == 4


def test_stored_statistics_are_counted_apart_from_parameters() -> None:
    module = nn.Module()
    module.lstm = LSTM(3, 4, norm="bn-timestep", max_steps=5)
    # mean and variance of 5 steps: 16 features of the input term, 16 of the recurrent one, 4 of the cell
    assert stored_statistics(module) == 2 * 5 * (16 + 16 + 4)  # type: ignore[arg-type]


def test_json_has_no_numbers_that_are_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "result.json"
    write_json(path, {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": -float("inf")}})
    assert json.loads(path.read_text()) == {"a": None, "b": [None, 1.5], "c": {"d": None}}
