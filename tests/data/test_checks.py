"""What is wrong with data is said once, when they are loaded, with its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from rnnnorm.cli import main
from rnnnorm.data import AddingProblem, Batch, DelayedRecall, SequenceDataModule, Spec, TemporalOrder
from rnnnorm.data.checks import check_batch, check_splits
from rnnnorm.data.collate import Example, collate
from rnnnorm.studies.data.rearranged import Rearranged

SPECS = {
    "classification": Spec("classification", vocabularies=(7, 3), num_outputs=4, max_length=5),
    "tagging": Spec("tagging", num_features=2, num_outputs=4, max_length=5),
    "language-modelling": Spec("language-modelling", vocabularies=(7,), num_outputs=7, max_length=5),
    "regression": Spec("regression", num_features=2, num_outputs=3, max_length=5),
    "multi-label": Spec("multi-label", num_features=2, num_outputs=3, max_length=5),
}
TARGETS: dict[str, Callable[[int], Tensor]] = {
    "classification": lambda T: torch.tensor(3),
    "tagging": lambda T: torch.full((T,), 3),
    "language-modelling": lambda T: torch.full((T,), 6),
    "regression": lambda T: torch.full((3,), -5.0),
    "multi-label": lambda T: torch.ones(T, 3),
}


def examples(task: str, count: int = 6) -> list[Example]:
    spec, made = SPECS[task], []
    for T in [1 + k % 5 for k in range(count)]:
        if spec.vocabularies:
            rows = torch.tensor([[size - 1 for size in spec.vocabularies]] * T)
        else:
            rows = torch.full((T, spec.num_features), 2.5)
        made.append((rows, TARGETS[task](T)))
    return made


class Mine(SequenceDataModule):
    """Somebody's own."""

    def __init__(self, task: str = "tagging", broken: str = "", place: int = 3, **common: Any) -> None:
        super().__init__(**common)
        self.task = task  # type: ignore[misc, assignment]
        self.broken, self.place, self.loads = broken, place, 0

    @property
    def spec(self) -> Spec:
        return replace(SPECS[self.task], max_length=self.max_length)

    def load(self) -> dict[str, list[Example]]:
        self.loads += 1
        splits = {split: examples(self.task, 20) for split in ("train", "val", "test")}
        if self.broken:
            splits["val"][self.place] = BREAK[self.task, self.broken](*splits["val"][self.place])
        return splits


def put(tensor: Tensor, index: Any, value: float) -> Tensor:
    changed = tensor.clone()
    changed[index] = value
    return changed


Break = Callable[[Tensor, Tensor], tuple[Any, Any]]
BREAK: dict[tuple[str, str], Break] = {
    ("tagging", r"row 2: feature 1 is nan, but must be finite"): lambda x, y: (put(x, (2, 1), torch.nan), y),
    ("tagging", r"row 0: feature 0 is -inf, but must be finite"): lambda x, y: (put(x, (0, 0), -torch.inf), y),
    ("tagging", r"row 3: target is 4, but must be from 0 to 3"): lambda x, y: (x, put(y, 3, 4)),
    ("tagging", r"row 1: target is -100, but must be from 0 to 3"): lambda x, y: (x, put(y, 1, -100)),
    ("tagging", r"features must be torch.float32, got torch.float64: use .float\(\)"): lambda x, y: (x.double(), y),
    ("tagging", r"targets must be torch.int64, got torch.float32: use .long\(\)"): lambda x, y: (x, y.float()),
    ("tagging", r"targets must have shape \(T\), got \(4, 1\)"): lambda x, y: (x, y[:, None]),
    ("tagging", r"features must have shape \(T, 2\), got \(4, 3\)"): lambda x, y: (torch.ones(4, 3), y),
    ("tagging", r"4 rows and 3 targets: tagging needs one target per row"): lambda x, y: (x, y[:3]),
    ("tagging", r"expected a tensor of features, got ndarray"): lambda x, y: (x.numpy(), y),
    ("tagging", r"expected a tensor of targets, got list"): lambda x, y: (x, y.tolist()),
    ("classification", r"row 3: token 1 is 3, but must be from 0 to 2"): lambda x, y: (put(x, (3, 1), 3), y),
    ("classification", r"row 0: token 0 is -1, but must be from 0 to 6"): lambda x, y: (put(x, (0, 0), -1), y),
    ("classification", r"tokens must be torch.int64, got torch.int32"): lambda x, y: (x.int(), y),
    ("classification", r": target is 4, but must be from 0 to 3"): lambda x, y: (x, torch.tensor(4)),
    ("classification", r"targets must have shape \(\), got \(1,\)"): lambda x, y: (x, y[None]),
    ("language-modelling", r"row 2: token is 7, but must be from 0 to 6"): lambda x, y: (put(x, 2, 7), y),
    ("regression", r": target 2 is inf, but must be finite"): lambda x, y: (x, put(y, 2, torch.inf)),
    ("regression", r"targets must have shape \(3\), got \(\)"): lambda x, y: (x, y.sum()),
    ("regression", r"targets must be torch.float32, got torch.float64"): lambda x, y: (x, y.double()),
    ("multi-label", r"row 1: target 0 is 1.5, but must be between 0 and 1"): lambda x, y: (x, put(y, (1, 0), 1.5)),
    ("multi-label", r"row 1: target 0 is nan, but must be between 0 and 1"): lambda x, y: (
        x,
        put(y, (1, 0), torch.nan),
    ),
}


@pytest.mark.parametrize("at_once", [1, 7, 1 << 18])
@pytest.mark.parametrize(("task", "words"), BREAK, ids=str)
def test_the_place_is_named(task: str, words: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnnorm.data.checks.AT_ONCE", at_once)
    module = Mine(task, words)
    for _ in range(2):  # what was broken is not kept
        with pytest.raises(ValueError, match=rf"^sequence 3 of the val split of Mine(: |, ){words.removeprefix(': ')}"):
            module.train_dataloader()
    assert module.loads == 2


@pytest.mark.parametrize("task", SPECS)
def test_what_fits_is_read_once(task: str) -> None:
    module = Mine(task, num_workers=0, batch_size=7)
    for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader()):
        assert len(list(loader)) == 3
    assert module.loads == 1
    assert module.spec.max_length == 5


def test_a_module_without_a_spec_is_looked_at_for_emptiness_only() -> None:
    check_splits({"train": [(torch.full((2, 1), torch.nan), torch.tensor(0))]}, "Mine")
    with pytest.raises(ValueError, match="sequence 0 of the train split of Mine has no rows"):
        check_splits({"train": [(torch.ones(0, 1), torch.tensor(0))]}, "Mine")
    with pytest.raises(ValueError, match="the test split of Mine is empty"):
        check_splits({"train": [(torch.ones(1, 1), torch.tensor(0))], "test": []}, "Mine")


@pytest.mark.parametrize(("task", "words"), BREAK, ids=str)
def test_batches_are_looked_at_in_the_same_way(task: str, words: str) -> None:
    clean = examples(task, 4)
    check_batch(collate(clean, task), SPECS[task], "batch 5")  # type: ignore[arg-type]
    try:
        broken = collate([*clean[:3], BREAK[task, words](*clean[3])], task)  # type: ignore[arg-type]
    except (ValueError, TypeError, AttributeError, RuntimeError):
        return  # collating alone refuses it
    if "int32" in words:
        return  # among sequences of int64 it is one of them
    with pytest.raises(ValueError, match=r"^batch 5[:,] ") as error:
        check_batch(broken, SPECS[task], "batch 5")
    place = [f"row {t}:" for t in range(4) if f"row {t}:" in words]
    if place:  # the longest sequence comes first
        assert f"batch 5, sequence 0, {words.replace(chr(92), '')}" in str(error.value)


class Foreign(L.LightningDataModule):
    """A data module that owes us nothing but a spec and batches."""

    def __init__(self, broken: str = "") -> None:
        super().__init__()
        self.broken = broken

    @property
    def spec(self) -> Spec:
        return SPECS["tagging"]

    def batches(self, split: str) -> list[Batch]:
        batches = [collate(examples("tagging"), "tagging") for _ in range(3)]
        if split == self.broken:
            batches[1].input.data[4, 1] = torch.nan
        return batches

    def train_dataloader(self) -> Any:
        return self._loader("train")

    def val_dataloader(self) -> Any:
        return self._loader("val")

    def test_dataloader(self) -> Any:
        return self._loader("test")

    def _loader(self, split: str) -> Any:
        return torch.utils.data.DataLoader(self.batches(split), batch_size=None)  # type: ignore[arg-type]


class Wrapped(Rearranged):
    """Our batches in another order, of somebody's broken data."""

    def __init__(self, broken: str = "") -> None:
        super().__init__(Mine("tagging", r"row 2: feature 1 is nan, but must be finite" if broken else ""))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("module", "broken", "words"),
    [
        ("Foreign", "train", "batch 1 of the train split of Foreign, sequence 4, row 0: feature 1 is nan"),
        ("Foreign", "val", "batch 1 of the val split of Foreign, sequence 4, row 0: feature 1 is nan"),
        ("Foreign", "test", "batch 1 of the test split of Foreign, sequence 4, row 0: feature 1 is nan"),
        ("Wrapped", "val", "sequence 3 of the val split of Mine, row 2: feature 1 is nan"),
    ],
    ids=lambda value: value if len(value) < 9 else "",
)
def test_a_comparison_says_it_once_and_runs_nothing(
    module: str, broken: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    common = [
        "--model.hidden_size",
        "4",
        "--trainer.max_epochs",
        "1",
        "--trainer.accelerator",
        "cpu",
        "--out",
        str(out),
    ]
    data = ["--data", f"{__name__}.{module}", "--data.broken", broken]
    assert main(["compare", *data, "--norms", "none,ln", "--seeds", "2", *common]) == 2
    said = capsys.readouterr()
    assert said.err.count(words) == 1, said.err
    assert "diverged" not in said.out + said.err
    assert not out.exists()


@pytest.mark.parametrize("module", [AddingProblem, DelayedRecall, TemporalOrder])
def test_what_we_generate_passes(module: type[SequenceDataModule]) -> None:
    assert set(module().splits) == {"train", "val", "test"}


def test_padded_input_is_no_batch() -> None:
    with pytest.raises(ValueError, match="batch 0: input must be a PackedSequence, got Tensor"):
        check_batch(Batch(torch.ones(2, 2), torch.ones(2)), SPECS["tagging"], "batch 0")  # type: ignore[arg-type]
    packed = PackedSequence(torch.ones(3, 2), torch.tensor([2, 1]))
    with pytest.raises(ValueError, match="batch 0: 2 targets for 3 rows"):
        check_batch(Batch(packed, torch.zeros(2, dtype=torch.int64)), SPECS["tagging"], "batch 0")
