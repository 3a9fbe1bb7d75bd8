"""Losses per timestep and longer test sequences, against plain computations."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from rnnnorm.data import DelayedRecall, TemporalOrder
from rnnnorm.data.collate import collate
from rnnnorm.engine.evaluation import MODES
from rnnnorm.norms import has_batch_statistics, recalibrate, statistics
from rnnnorm.studies.data.languages import Lexicon, RunningSum
from rnnnorm.studies.measures.stepwise import (
    dense_batches,
    long_examples,
    mean_step_losses,
    require_answers_per_step,
    step_losses,
)
from rnnnorm.tasks import SequenceTask, Tagging

KEYS: dict[str, Any] = {"num_train": 8, "num_val": 2, "num_test": 6, "length_distribution": "fixed", "max_length": 12}
DATA = RunningSum(modulus=3, **KEYS)


def network(norm: str) -> SequenceTask:
    torch.manual_seed(0)
    model = Tagging(DATA.spec, norm=norm, hidden_size=5).eval()
    if has_batch_statistics(model):
        recalibrate(model, [collate(DATA.examples("train"), DATA.task)], forward=model.scores)
    return model


def test_losses_are_of_each_step_and_sequence_in_bits() -> None:
    model, examples = network("ln"), DATA.examples("test")
    found = step_losses(model, collate(examples, DATA.task))
    assert found.shape == (12, 6)
    for number, (rows, targets) in enumerate(examples):
        with torch.no_grad():
            logits, _ = model(collate([(rows, targets)], DATA.task).input)
        expected = cross_entropy(logits, targets, reduction="none") / math.log(2)
        torch.testing.assert_close(found[:, number], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 5, 12, 50])
def test_a_state_that_is_carried_makes_pieces_the_whole(chunk: int) -> None:
    model, batch = network("ln"), collate(DATA.examples("test"), DATA.task)
    torch.testing.assert_close(step_losses(model, batch, chunk), step_losses(model, batch), rtol=1e-4, atol=1e-5)


def test_a_prefix_is_a_shorter_test_sequence() -> None:
    """What is predicted at a step does not depend on later ones, whatever the statistics."""
    for norm in ("ln", "bn-timestep", "bn-shared"):
        model, examples = network(norm), DATA.examples("test")
        short = [(rows[:5], targets[:5]) for rows, targets in examples]
        for mode in MODES:
            with statistics(model, mode):
                long, cut = (mean_step_losses(model, [collate(some, DATA.task)]) for some in (examples, short))
            torch.testing.assert_close(long[:5], cut, rtol=1e-4, atol=1e-5)


def test_ragged_sequences_are_refused() -> None:
    examples = DATA.examples("test")
    ragged = [examples[0], (examples[1][0][:7], examples[1][1][:7])]
    with pytest.raises(ValueError, match="between 1 and 2"):
        step_losses(network("ln"), collate(ragged, DATA.task))


def test_means_are_over_all_sequences() -> None:
    model, examples = network("ln"), DATA.examples("test")
    batches = list(dense_batches(examples, DATA, 3))
    assert len(batches) == 2
    every = step_losses(model, collate(examples, DATA.task))
    torch.testing.assert_close(mean_step_losses(model, batches), every.mean(1), rtol=1e-4, atol=1e-5)


def test_batches_are_full_but_never_none() -> None:
    examples = DATA.examples("test")
    assert [int(b.input.batch_sizes[0]) for b in dense_batches(examples, DATA, 4)] == [4]
    assert [int(b.input.batch_sizes[0]) for b in dense_batches(examples, DATA, 99)] == [6]


def test_generated_data_are_generated_longer() -> None:
    options = {**KEYS, "seed": 4, "num_words": 9}
    data = Lexicon(**options)
    longer = long_examples(data, options, 50, 7)
    assert [len(rows) for rows, _ in longer] == [50] * 7
    same = Lexicon(**options).language()
    letters = {tuple(word.tolist()) for word in same[0]}
    for rows, _ in longer:
        text = rows[:, 0].tolist()
        spaces = [k for k, letter in enumerate(text) if letter == 0]
        assert {tuple(text[a + 1 : b + 1]) for a, b in pairwise(spaces)} <= letters


class Read:
    """Data that are not generated, of sequences of several lengths."""

    task = "tagging"

    def __init__(self, *lengths: int) -> None:
        ends = torch.tensor(lengths).cumsum(0).tolist()
        self.found = [
            (torch.arange(b - a, b)[:, None], torch.arange(b - a, b) + 100) for a, b in zip(lengths, ends, strict=True)
        ]

    def examples(self, split: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return {"test": self.found}[split]


def test_other_data_are_joined_end_to_end() -> None:
    data: Any = Read(4, 3, 6)
    longer = long_examples(data, {}, 5, 10)
    assert [rows[:, 0].tolist() for rows, _ in longer] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert [targets.tolist() for _, targets in longer] == [[100, 101, 102, 103, 104], [105, 106, 107, 108, 109]]
    assert len(long_examples(data, {}, 2, 3)) == 3
    with pytest.raises(ValueError, match="13 steps in all: two sequences of 7"):
        long_examples(data, {}, 7, 10)


def test_a_target_per_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match=r"somebody needs data with a target at every step .* got classification"):
        require_answers_per_step(TemporalOrder(**KEYS), "somebody")
    with pytest.raises(ValueError, match="got classification"):
        require_answers_per_step({"class_path": "rnnnorm.data.TemporalOrder"}, "somebody")
    with pytest.raises(ValueError, match="longer test set"):
        long_examples(TemporalOrder(**KEYS), KEYS, 50, 3)
    require_answers_per_step(DelayedRecall(**KEYS), "somebody")
    require_answers_per_step({"class_path": "rnnnorm.data.DelayedRecall"}, "somebody")


def test_a_users_class_with_a_target_per_sequence_is_refused_before_it_is_trained(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_order.py").write_text("from rnnnorm.data import TemporalOrder\nclass Mine(TemporalOrder): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="got classification"):
        require_answers_per_step({"class_path": "my_order.Mine"}, "somebody")
