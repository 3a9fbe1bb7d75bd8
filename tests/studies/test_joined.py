"""Words and what is joined of them: which rows, which targets, drawn from which seed, and how much of it is padding."""

from __future__ import annotations

import pytest
import torch

from rnnnorm.data import AddingProblem
from rnnnorm.studies.data.joined import Joined, Words
from rnnnorm.studies.data.rearranged import Rearranged
from rnnnorm.studies.framework.grid import drawn_anew
from rnnnorm.studies.measures.padded import padding_share


def words(**keys: object) -> Words:
    counts = {"num_train": 300, "num_val": 30, "num_test": 60}
    return Words(**{**counts, "length_distribution": "uniform", "min_length": 3, "max_length": 6, **keys})


def joined(**keys: object) -> Joined:
    return Joined(**{"data": words(), "most": 6, "num_train": 200, "num_val": 20, "num_test": 40, **keys})


def test_without_noise_a_word_is_a_path_of_two_legs() -> None:
    module = words(noise=0.0, num_words=2, min_length=6, max_length=6)
    first, second = (next(rows for rows, target in module.examples("train") if target == k) for k in (0, 1))
    steps = first.diff(dim=0)
    assert torch.allclose(steps[0], steps[1], atol=1e-5)
    assert torch.allclose(steps[3], steps[4], atol=1e-5)
    assert not torch.allclose(steps[1], steps[3], atol=1e-2)
    assert not torch.allclose(first, second, atol=1e-2)
    others = [rows for rows, target in module.examples("test") if target == 0]
    assert all(torch.allclose(rows, first) for rows in others)  # the same words in all splits


def test_noise_has_its_standard_deviation() -> None:
    quiet, loud = (torch.cat([rows for rows, _ in words(noise=noise).examples("train")]) for noise in (0.0, 0.5))
    assert float((loud - quiet).std()) == pytest.approx(0.5, rel=0.05)


def test_what_is_joined_is_whole_words_of_the_same_split_each_with_its_class() -> None:
    module = joined(data=words(min_length=4, max_length=4))
    for split in ("train", "test"):
        known = {tuple(rows.flatten().tolist()): int(target) for rows, target in module.data.examples(split)}
        lengths = set()
        for rows, targets in module.examples(split):
            parts = rows.split(4)
            assert targets.tolist() == [known[tuple(part.flatten().tolist())] for part in parts for _ in range(4)]
            lengths.add(len(parts))
        assert {1, 2, 3} <= lengths <= {*range(1, 7)}
    assert module.spec.max_length == 24
    assert module.spec.num_outputs == 10


def test_a_stride_takes_every_so_many_rows_of_each() -> None:
    every, third = joined(), joined(stride=3)
    lengths = {len(rows) for rows, _ in joined(stride=3, most=1).examples("train")}
    assert lengths == {1, 2}  # of 3 to 6 rows
    assert third.max_length < every.max_length


def test_the_seed_draws_what_is_joined_of_files_too() -> None:
    data = {"class_path": "rnnnorm.data.SpokenDigits", "init_args": {"data_dir": "x"}}
    config = {"data": {"class_path": f"{Joined.__module__}.Joined", "init_args": {"data": data, "most": 3}}}
    assert drawn_anew(config, 7)["data"]["init_args"] == {"seed": 7, "data": data, "most": 3}
    same = words()
    one, again, other = (Joined(same, num_train=50, seed=seed) for seed in (0, 0, 1))
    texts = [[tuple(target.tolist()) for _, target in module.examples("train")] for module in (one, again, other)]
    assert texts[0] == texts[1] != texts[2]


def test_only_classifications_are_joined() -> None:
    with pytest.raises(ValueError, match="got regression"):
        Joined(AddingProblem())


def test_padding_share() -> None:
    def share(lengths: list[list[int]]) -> float:
        inputs = [torch.nn.utils.rnn.pack_sequence([torch.zeros(n, 1) for n in batch], False) for batch in lengths]
        return padding_share([type("Batch", (), {"input": packed})() for packed in inputs])

    assert share([[4, 4], [2, 2]]) == 0
    assert share([[4, 2, 2], [1, 3]]) == pytest.approx(1 - 12 / 18)


@pytest.mark.parametrize(("batches", "low", "high"), [("mixed", 0.5, 0.8), ("similar", 0.0, 0.3)])
def test_mixed_batches_are_mostly_padding(batches: str, low: float, high: float) -> None:
    module = Rearranged(joined(most=10), batches=batches)
    assert low < padding_share([*module.train_dataloader()]) < high
