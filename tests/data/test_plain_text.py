"""Language modelling of the user's own text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rnnnorm.data import LanguageModel, PlainText

LINES = [f"line {k} of {'many ' * (k % 4)}lines" for k in range(30)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "own.txt"
    path.write_text("\n\n".join(LINES) + "\n")
    return path


def text(data: PlainText, split: str) -> list[str]:
    names, between = data.vocabularies[data.level], " " if data.level == "word" else ""
    return [between.join(names[i] for i in y.tolist()) for _, y in data.examples(split)]


@pytest.mark.parametrize("level", ["word", "char"])
@pytest.mark.parametrize("mode", ["sentences", "stream"])
def test_files_by_split_are_read_as_a_folder_of_them_is(level: Any, mode: Any, tmp_path: Path) -> None:
    for split, part in (("train", LINES[:20]), ("valid", LINES[20:25]), ("test", LINES[25:])):
        (tmp_path / f"{split}.txt").write_text("\n".join(part) + "\n")
    keys: dict[str, Any] = {"level": level, "mode": mode, "batch_size": 2, "bptt": 5, "data_dir": str(tmp_path)}
    own = PlainText("train.txt", "valid.txt", "test.txt", **keys)
    folder = LanguageModel("folder", folder="", **keys)
    assert own.spec == folder.spec
    assert own.vocabularies == folder.vocabularies
    if mode == "stream":
        for split in ("train", "val", "test"):
            ours, theirs = own.loader(split, 2, False), folder.loader(split, 2, False)
            for a, b in zip(ours, theirs, strict=True):
                assert torch.equal(a.input.data, b.input.data)
    else:
        assert [text(own, split) for split in ("train", "val")] == [text(folder, s) for s in ("train", "val")]  # type: ignore[arg-type]


def test_lines_are_drawn_for_sentences(path: Path) -> None:
    data = PlainText(str(path), val_share=0.2, min_freq=1)
    assert [len(data.examples(split)) for split in ("train", "val", "test")] == [21, 6, 3]
    known = set(data.vocabularies["word"])
    expected = {" ".join(w if w in known else "<unk>" for w in [*line.split(), "<eos>"]) for line in LINES}
    assert {line for split in ("train", "val", "test") for line in text(data, split)} == expected
    held = {w for line in text(data, "test") for w in line.split()}
    assert "<unk>" in held, "the number of a test line is in no training line"
    assert text(PlainText(str(path), split_seed=1), "test") != text(PlainText(str(path), split_seed=2), "test")


def test_without_a_seed_sentences_stay_in_order(path: Path) -> None:
    data = PlainText(str(path), split_seed=None, level="char", min_freq=1)
    assert text(data, "train") == [f"{line}\n" for line in LINES[:24]]
    assert len(text(data, "val")) == len(text(data, "test")) == 3


@pytest.mark.parametrize("val_share", [0.0, 0.3])
def test_a_stream_is_cut_into_runs_at_white_space(val_share: float, path: Path) -> None:
    whole = path.read_text()
    data = PlainText(str(path), mode="stream", level="char", val_share=val_share, batch_size=2)
    parts = data.texts
    assert parts["train"] + parts["val"] + parts["test"] == whole
    assert all(part == "" or part[-1].isspace() for part in parts.values())
    assert len(parts["test"]) / len(whole) == pytest.approx(0.1, abs=0.01)
    assert len(parts["val"]) / len(whole) == pytest.approx(val_share, abs=0.01)
    assert bool(data.val_dataloader()) == bool(val_share)
    assert len(data.train_dataloader()) == -(-(len(parts["train"]) // 2 - 1) // 35)


def test_a_text_without_white_space_is_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("文" * 100)
    assert [len(t) for t in PlainText(str(path), mode="stream", level="char").texts.values()] == [80, 10, 10]
