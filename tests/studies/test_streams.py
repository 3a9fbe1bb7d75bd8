"""Losses on streams: prequential ones, and those of reading in pieces, against plain computations."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence

from rnnnorm.data.base import Batch, Spec
from rnnnorm.norms import statistics
from rnnnorm.studies.measures.streams import prequential, reading
from rnnnorm.tasks import SequenceTask, Tagging

SPEC = Spec("tagging", num_features=3, num_outputs=4, max_length=6)


def dense(T: int = 6, B: int = 3) -> Batch:
    random = torch.Generator().manual_seed(1)
    rows = torch.randn(T, B, 3, generator=random) * torch.arange(1, T + 1)[:, None, None]  # statistics depend on t
    rows = rows.flatten(0, 1)
    return Batch(PackedSequence(rows, torch.full((T,), B)), torch.randint(4, (T * B,), generator=random))


def tagger(norm: str) -> Tagging:
    """A network whose stored statistics are not those that it started with."""
    torch.manual_seed(2)
    task = Tagging(SPEC, norm=norm, hidden_size=5)
    for _ in range(30):
        task(dense().input)
    return task.eval()


def losses(task: SequenceTask, *sizes: int) -> dict[tuple[str, int], float]:
    found = {}
    data: Any = SimpleNamespace(train_dataloader=lambda: [dense()], val_dataloader=lambda: [dense(), dense()])
    for row in reading(task, [dense()], data, sizes):
        if row["quantity"] == "val_loss":
            continue
        assert row["quantity"] == "loss"
        found[row["mode"], row["chunk"]] = row["value"]
    return found


def test_the_loss_is_the_mean_of_the_second_half() -> None:
    rows = list(prequential([float(k) for k in range(160)], 8, math.log(4)))
    assert rows[:2] == [{"quantity": "diverged", "value": 0.0}, {"quantity": "loss", "value": sum(range(80, 160)) / 80}]
    assert len(rows) == 2 + 40
    assert rows[2] == {"quantity": "prequential", "t": 32, "value": 1.5}  # four batches of eight
    assert rows[-1]["t"] == 160 * 8


def test_a_stream_that_diverges_counts_as_guessing() -> None:
    assert list(prequential([1.0, 1.2, math.inf, math.inf], 1, math.log(4))) == [
        {"quantity": "diverged", "value": 1.0},
        {"quantity": "loss", "value": math.log(4)},
        {"quantity": "prequential", "t": 1, "value": 1.0},
        {"quantity": "prequential", "t": 2, "value": 1.2},
    ]


@pytest.mark.parametrize("norm", ["none", "ln", "wn", "bn-shared", "bn-vertical"])
def test_without_statistics_per_timestep_pieces_are_the_whole(norm: str) -> None:
    found = losses(tagger(norm), 1, 2, 4, 99)
    assert {mode for mode, _ in found} == ({"population", "running"} if norm.startswith("bn") else {"population"})
    assert {size for _, size in found} == {1, 2, 4, 6}
    for (mode, _), value in found.items():
        assert value == pytest.approx(found[mode, 6], rel=1e-5)


def test_the_whole_is_the_mean_loss_of_all_rows() -> None:
    task, batch = tagger("ln"), dense()
    expected = torch.nn.functional.cross_entropy(task(batch.input)[0], batch.target)
    assert losses(task) == {("population", 6): pytest.approx(float(expected.detach()), rel=1e-6)}


def test_with_statistics_per_timestep_each_piece_begins_at_step_0_again() -> None:
    """A piece of two steps is read as steps 0 and 1, wherever it stands."""
    task, batch = tagger("bn-timestep"), dense()
    total, state = 0.0, None
    rows, targets = batch.input.data.view(3, 2 * 3, 3), batch.target.view(3, 2 * 3)
    with torch.no_grad(), statistics(task, "running"):
        for piece, target in zip(rows, targets, strict=True):
            logits, state = task(PackedSequence(piece, torch.tensor([3, 3])), state)
            total += float(torch.nn.functional.cross_entropy(logits, target)) / 3
    found = losses(task, 2)
    assert found["running", 2] == pytest.approx(total, rel=1e-5)
    assert abs(found["running", 2] - found["running", 6]) > 1e-3
