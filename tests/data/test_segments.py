"""Segments of a text: what is cut, what is predicted, and where the segments of an epoch begin."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from rnnnorm.data import LanguageModel, PlainText
from rnnnorm.data.segments import Segments, SegmentSampler, cut_segments


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, count in (("train", 53), ("valid", 12), ("test", 25)):
        (tmp_path / f"{split}.txt").write_text("".join(chr(97 + i % 7) for i in range(count)))
    return tmp_path


def text(root: Path, **keys: Any) -> LanguageModel:
    keys = {"mode": "segments", "segment_length": 5, "batch_size": 3, "level": "char"} | keys
    return LanguageModel(dataset="folder", folder=str(root), **keys)


def test_every_token_but_the_first_is_predicted_once_and_the_rest_is_left_out() -> None:
    found = cut_segments(torch.arange(12), 5)
    assert [(x.flatten().tolist(), y.tolist()) for x, y in found] == [
        ([0, 1, 2, 3, 4], [1, 2, 3, 4, 5]),
        ([5, 6, 7, 8, 9], [6, 7, 8, 9, 10]),
    ]
    assert len(cut_segments(torch.arange(11), 5)) == 2
    assert len(cut_segments(torch.arange(10), 5)) == 1


def test_the_segments_of_an_epoch_follow_each_other_from_one_offset() -> None:
    plan = SegmentSampler(53, 5, 2, seed=3)
    offsets = set()
    for epoch in range(20):
        starts = sorted(start for batch in plan.batches(epoch) for start in batch)
        gaps = {b - a for a, b in pairwise(starts)}
        assert gaps <= {5, 10}  # a segment that fills no batch is left out
        assert starts[0] >= 0
        assert starts[-1] + 5 < 53
        assert len(starts) == 2 * len(plan) == 8
        offsets.add(starts[0] % 5)
    assert offsets == set(range(5))
    assert plan.batches(4) == SegmentSampler(53, 5, 2, seed=3).batches(4)
    assert plan.unshuffled().batches(1) == [[0, 5], [10, 15], [20, 25], [30, 35]]


def test_processes_share_the_segments_of_an_epoch() -> None:
    parts = [SegmentSampler(53, 5, 2, num_replicas=2, rank=rank).batches(7) for rank in range(2)]
    whole = SegmentSampler(53, 5, 4).batches(7)
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(batch) for batch in whole]


def test_batches_predict_the_next_token_and_nothing_continues(root: Path) -> None:
    data = text(root)
    batches = list(data.train_dataloader())
    assert len(batches) == len(data.train_dataloader()) == 3
    for batch in batches:
        assert batch.input.batch_sizes.tolist() == [3] * 5
        assert not batch.continues
        x, y = batch.input.data.view(5, 3), batch.target.view(5, 3)
        assert torch.equal(x[1:], y[:-1])
    assert data.max_length == data.spec.max_length == 5
    assert data.lengths("val") == [5, 5]


def test_offsets_of_loaders_differ_by_epoch_and_shuffle_seed(root: Path) -> None:
    loader, other = text(root).train_dataloader(), text(root, shuffle_seed=1).train_dataloader()
    first = torch.cat([b.target for b in loader])
    loader.sampler.set_epoch(1)  # type: ignore[attr-defined]
    assert not torch.equal(first, torch.cat([b.target for b in loader]))
    assert not torch.equal(first, torch.cat([b.target for b in other]))


def test_the_test_split_is_read_once_for_each_length(root: Path) -> None:
    data = text(root, test_lengths=[8, 3])
    assert sorted(data.lengths("test")) == [3] * 8 + [8] * 3
    assert [len(y) for _, y in data.examples("test")][:3] == [8, 8, 8]


def test_own_texts_are_cut_into_runs(root: Path) -> None:
    data = PlainText(train=str(root / "train.txt"), val=str(root / "valid.txt"), test=str(root / "test.txt"),
                     mode="segments", level="char", segment_length=4, batch_size=2)  # fmt: skip
    assert set(data.lengths("train")) == {4}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"mode": "stream", "test_lengths": [5]}, "mode='stream'"),
        ({"test_lengths": []}, r"got \[\]"),
        ({"test_lengths": [5, 5]}, r"different.*\[5, 5\]"),
        ({"segment_length": 0}, "segment_length.*0"),
    ],
)
def test_what_makes_no_sense_is_refused(root: Path, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        text(root, **keys)


def test_texts_too_short_for_a_segment_or_a_batch_are_named(root: Path) -> None:
    with pytest.raises(ValueError, match="val split of folder: a text of 12 tokens has no segment of 20 steps"):
        _ = text(root, segment_length=20).splits
    with pytest.raises(ValueError, match=r"train split of folder: .* no batch of 40"):
        text(root, batch_size=40).train_dataloader()
    assert len(Segments(torch.arange(6), 5)) == 1
