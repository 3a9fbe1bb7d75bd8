"""What is said of data before a comparison: a line per split, and one per warning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from rnnnorm.compare.foreign import look_at
from rnnnorm.data import Batch, LabelledText, PlainText, SequenceDataModule, Spec, TemporalOrder
from rnnnorm.data.base import Task
from rnnnorm.data.collate import Example, collate

Splits = dict[str, list[Example]]


class Given(SequenceDataModule):
    """Splits as given."""

    def __init__(self, splits: Splits, task: Task = "classification", outputs: int = 3, **common: Any) -> None:
        super().__init__(**common)
        self.given, self.task, self.outputs = splits, task, outputs  # type: ignore[misc]

    @property
    def spec(self) -> Spec:
        return Spec(self.task, num_features=2, num_outputs=self.outputs, max_length=self.max_length)

    def load(self) -> Splits:
        return self.given


def rows(length: int, value: float = 0.0) -> Tensor:
    """Two features, the first of which counts."""
    return torch.stack([torch.arange(length) + value, torch.linspace(-1, 1, length)], 1)


def sound() -> Splits:
    """Splits that there is nothing to warn of."""
    return {
        split: [(rows(2 + k % 5, start + k), torch.tensor(k % 3)) for k in range(count)]
        for split, start, count in (("train", 0.5, 60), ("val", 100.25, 9), ("test", 200.75, 12))
    }


def warnings(data: L.LightningDataModule) -> list[str]:
    return [line.removeprefix("warning: ") for line in look_at(data) if line.startswith("warning: ")]


def test_a_line_per_split() -> None:
    assert look_at(Given(sound())) == [
        "train: 60 sequences of 2 to 6 steps (median 4); 3 classes, always guessing class 0 scores 0.333; "
        "2 features from -1 to 64.5",
        "val:   9 sequences of 2 to 6 steps (median 4); 3 classes, always guessing class 0 scores 0.333; "
        "2 features from -1 to 112.2",
        "test:  12 sequences of 2 to 6 steps (median 4); 3 classes, always guessing class 0 scores 0.333; "
        "2 features from -1 to 214.8",
    ]


def test_guessing_is_the_most_frequent_class_of_training_in_every_split() -> None:
    splits = sound()
    splits["train"] += [(rows(3, 1000.5 + k), torch.tensor(2)) for k in range(40)]
    splits["test"][2:] = [(x, torch.tensor(0)) for x, _ in splits["test"][2:]]
    train, _, test, *_ = look_at(Given(splits))
    assert "always guessing class 2 scores 0.600" in train
    assert "2 classes, always guessing class 2 scores 0.000" in test


def changed(split: str, change: Callable[[Example], Example], start: int = 0) -> Splits:
    splits = sound()
    splits[split][start:] = [change(example) for example in splits[split][start:]]
    return splits


def label(number: int) -> Callable[[Example], Example]:
    return lambda example: (example[0], torch.tensor(number))


def scaled(factor: float) -> Callable[[Example], Example]:
    return lambda example: (example[0] * torch.tensor([1.0, factor]), example[1])


WARNED: dict[str, tuple[Splits, list[str]]] = {
    "none": (sound(), []),
    "no validation": (sound() | {"val": []}, ["nothing is validated: the last weights are evaluated, not the best"]),
    "one class": (
        changed("train", label(1)),
        [
            "all training targets are class 1: there is nothing to learn",
            "class 0, class 2 are in the test split but never in training",
        ],
    ),
    "dominant": (
        changed("train", label(1), 3),
        ["96.7% of the training targets are class 1: guessing it scores as much"],
    ),
    "no more than 95 %": (changed("train", label(1), 9), []),
    "new class": (
        {
            "train": [example for example in sound()["train"] if example[1] != 2],
            **{k: sound()[k] for k in ("val", "test")},
        },
        ["class 2 is in the test split but never in training"],
    ),
    "repeated": (
        sound() | {"test": [*sound()["test"][:9], *sound()["train"][:3]]},
        ["25.0% of the test sequences are training sequences, too"],
    ),
    "constant": (changed("train", scaled(0)), ["feature 1 is constant in the training split"]),
    "narrow": (
        changed("train", scaled(1e-3)),
        [
            "the ranges of features 0 and 1 are 64 and 0.002: standardize them, or the narrow one goes unnoticed",
        ],
    ),
    "not so narrow": (changed("train", scaled(1 / 16)), []),
    "one step": (
        changed("train", lambda example: (example[0][:1] * torch.tensor([1.0, example[0][0, 0]]), example[1])),
        ["all training sequences have one step: nothing is carried from step to step"],
    ),
}


@pytest.mark.parametrize("kind", WARNED)
def test_a_line_per_warning(kind: str) -> None:
    splits, expected = WARNED[kind]
    assert warnings(Given(splits, batch_size=7)) == expected


@pytest.mark.parametrize(("size", "warned"), [(59, False), (60, True), (1000, True)])
def test_one_optimizer_step_per_epoch(size: int, warned: bool) -> None:
    expected = ["one optimizer step per epoch: a batch holds all 60 training sequences"]
    assert warnings(Given(sound(), batch_size=size)) == (expected if warned else [])


def test_targets_of_every_row_are_counted() -> None:
    splits = {s: [(x, torch.tensor([1] * (len(x) - 1) + [2])) for x, _ in e] for s, e in sound().items()}
    train = look_at(Given(splits, "tagging"))[0]
    assert "2 classes, always guessing class 1 scores 0.750" in train  # of 240 rows, 60 are the last ones


def test_regression_targets_have_a_range() -> None:
    splits = {s: [(x, y[None] - 0.5) for x, y in e] for s, e in sound().items()}
    assert look_at(Given(splits, "regression", 1))[0].endswith("targets from -0.5 to 1.5")


def test_names_of_classes_and_unknown_tokens(tmp_path: Path) -> None:
    path = tmp_path / "own.tsv"
    path.write_text("text\tlabel\n" + "".join(f"word{k} x{k} the\t{'yes' if k % 4 else 'no'}\n" for k in range(40)))
    said = look_at(LabelledText(str(path), min_freq=2, batch_size=4))
    assert "2 classes, always guessing 'yes' scores 0.750; 66.7% of tokens unknown" in said[0]
    assert "warning: 66.7% of the tokens of the train split are unknown" in said


def test_a_stream_is_one_sequence(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("a b c d\n" * 100)
    said = look_at(PlainText(str(path), mode="stream", batch_size=4))
    assert said[0].startswith("train: 1 sequence of 402 steps")
    assert not any("optimizer step" in line for line in said)


def test_of_many_numbers_some_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnnorm.data.summary.ENOUGH", 240)
    splits = sound() | {"test": [*sound()["test"][:6], *sound()["train"][:6]]}
    said = look_at(Given(splits))
    assert "60 sequences of 2 to 6 steps" in said[0]
    assert said[0].endswith("all but the lengths from 30 sequences of them")
    assert "warning: at least 25.0% of the test sequences are training sequences, too" in said


class Foreign(L.LightningDataModule):
    """Somebody's data module, which reads its data in `setup`."""

    def __init__(self, spec: Spec | None, splits: Splits, wrap: Callable[[Batch], Any] = lambda batch: batch) -> None:
        super().__init__()
        self.given, self.wrap, self.ready = splits, wrap, set[str]()
        if spec is not None:
            self.spec = spec

    def setup(self, stage: str) -> None:
        self.ready.add(stage)

    def _batches(self, split: str) -> list[Any]:
        assert ("test" if split == "test" else "fit") in self.ready
        examples = self.given[split]
        return [self.wrap(collate(examples[k : k + 8], "classification")) for k in range(0, len(examples), 8)]

    def train_dataloader(self) -> Any:
        return self._batches("train")

    def val_dataloader(self) -> Any:
        return self._batches("val")

    def test_dataloader(self) -> Any:
        return self._batches("test")


SPEC = Spec("classification", num_features=2, num_outputs=3, max_length=6)


@pytest.mark.parametrize("kind", WARNED)
def test_batches_of_others_are_summarized_as_their_sequences_are(kind: str) -> None:
    splits, _ = WARNED[kind]
    assert look_at(Foreign(SPEC, splits)) == look_at(Given(splits, batch_size=8))


def test_tags_of_others_are_counted() -> None:
    splits = {s: [(x, torch.tensor([1] * (len(x) - 1) + [2])) for x, _ in e] for s, e in sound().items()}

    class Tagging(Foreign):
        def _batches(self, split: str) -> list[Any]:
            return [collate(self.given[split][k : k + 8], "tagging") for k in range(0, len(self.given[split]), 8)]

    spec = Spec("tagging", num_features=2, num_outputs=3, max_length=6)
    assert look_at(Tagging(spec, splits)) == look_at(Given(splits, "tagging", batch_size=8))


def test_without_a_spec_nothing_is_said_of_targets() -> None:
    said = look_at(Foreign(None, sound()))
    assert said[0] == "train: 60 sequences of 2 to 6 steps (median 4); 2 features from -1 to 64.5"
    assert len(said) == 3


def test_without_a_spec_the_first_batches_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnnorm.compare.foreign.ENOUGH", 100)
    said = look_at(Foreign(None, sound()))
    assert said[0].startswith("train: 16 sequences of")
    assert said[0].endswith("; more were not looked at")


def test_batches_of_another_kind() -> None:
    said = look_at(Foreign(None, sound(), wrap=lambda batch: (batch.input, batch.target)))
    assert said == [
        f"{split:<7}batches of another kind than rnnnorm.data.Batch" for split in ("train:", "val:", "test:")
    ]


@pytest.mark.parametrize("split", ["train", "test"])
def test_nothing_to_train_on_or_to_test_is_an_error(split: str) -> None:
    with pytest.raises(ValueError, match=f"Foreign has no batches in its {split} split"):
        look_at(Foreign(SPEC, sound() | {split: []}))

    class Untested(Given):
        def load(self) -> Splits:
            return {name: examples for name, examples in self.given.items() if name != "test"}

        def test_dataloader(self) -> Any:
            return []

    if split == "test":
        with pytest.raises(ValueError, match="Untested has no batches in its test split"):
            look_at(Untested(sound()))


def test_packed_batches_that_are_not_sorted() -> None:
    sequences = [rows(2), rows(5), rows(3)]
    batch = Batch(pack_sequence(sequences, enforce_sorted=False), torch.tensor([0, 1, 2]))
    module = Foreign(None, sound())
    module._batches = lambda split: [batch]  # type: ignore[method-assign]
    said = look_at(module)
    assert said[0].startswith("train: 3 sequences of 2 to 5 steps (median 3)")
    assert "warning: 100.0% of the test sequences are training sequences, too" in said


def test_the_default_data_warn_of_nothing() -> None:
    assert warnings(TemporalOrder(num_train=500, min_length=20)) == []
