"""The user's own files: how one is divided, which are named, and that a comparison runs on each kind."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rnnnorm.cli import main
from rnnnorm.data import LabelledText, PlainText, TaggedText, TimeSeries, TimeSeriesRegression
from rnnnorm.data.own_files import divide

INTENTS = "text\tlabel\n" + "".join(f"fly to {city}\tflight\nrain in {city}\tweather\n" for city in "abcdefghij")
SLOTS = "".join(f"fly O\nto O\n{city} B-city\n\n" for city in "abcdefghijklmnop")
LINES = "".join(f"fly to {city} today\nrain in {city}\n" for city in "abcdefghij")
SERIES = "@univariate true\n@classLabel true up down\n@data\n" + "1,2,3:up\n3,2:down\n" * 8
NUMBERS = "@univariate true\n@targetLabel true\n@data\n" + "1,2,3:0.5\n3,2:-1.5\n" * 8
FILES: dict[str, tuple[Any, str, str]] = {
    "LabelledText": (LabelledText, "intents.tsv", INTENTS),
    "TaggedText": (TaggedText, "slots.txt", SLOTS),
    "PlainText": (PlainText, "lines.txt", LINES),
    "TimeSeries": (TimeSeries, "series.ts", SERIES),
    "TimeSeriesRegression": (TimeSeriesRegression, "numbers.ts", NUMBERS),
}


@pytest.mark.parametrize("strata", [None, "aaabbbbbbbbbcd" * 5], ids=["one class", "classes"])
@pytest.mark.parametrize(("val", "test"), [(0.1, 0.2), (0.0, 0.3), (0.3, 0.0), (0.0, 0.0), (0.001, 0.001)])
@pytest.mark.parametrize("seed", [0, 1, None])
def test_parts_are_the_whole_and_have_their_shares(
    val: float, test: float, strata: str | None, seed: int | None
) -> None:
    parts = divide(70, val, test, seed, strata)
    assert sorted(k for part in parts.values() for k in part) == list(range(70))
    assert all(part == sorted(part) for part in parts.values())
    for split, share in (("val", val), ("test", test)):
        assert len(parts[split]) == (max(1, round(70 * share)) if share else 0)
    if strata and seed is not None:
        assert {strata[k] for k in parts["train"]} == set(strata)
        held = Counter(strata[k] for split in ("val", "test") for k in parts[split])
        for name, size in Counter(strata).items():
            assert abs(held[name] - (len(parts["val"]) + len(parts["test"])) * size / 70) <= 1.5
    if seed is None:
        assert [*parts["train"], *parts["val"], *parts["test"]] == list(range(70))


def test_the_seed_decides_the_division_and_nothing_else_does() -> None:
    assert divide(50, 0.2, 0.2, 3) == divide(50, 0.2, 0.2, 3)
    assert divide(50, 0.2, 0.2, 3) != divide(50, 0.2, 0.2, 4)


def test_every_class_is_trained_on_however_rare() -> None:
    strata = ["often"] * 18 + [f"once {k}" for k in range(9)]
    for seed in range(20):
        assert set(range(18, 27)) <= set(divide(27, 0.2, 0.2, seed, strata)["train"])


@pytest.mark.parametrize(("count", "strata"), [(2, None), (4, "abcd"), (0, None)])
def test_too_few_sequences_are_not_divided(count: int, strata: str | None) -> None:
    with pytest.raises(ValueError, match=f"{count} sequences are too few to draw 1 for validation and 1 for testing"):
        divide(count, 0.1, 0.1, 0, strata)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_divided_or_named_by_split(kind: str, tmp_path: Path) -> None:
    cls, name, text = FILES[kind]
    path = tmp_path / name
    path.write_text(text)
    divided = cls(str(path), batch_size=4)
    total = sum(len(divided.examples(split)) for split in ("train", "val", "test"))
    assert len(divided.examples("val")) == len(divided.examples("test")) == round(0.1 * total)
    named = cls(name, val=name, test=name, data_dir=str(tmp_path))
    assert {len(named.examples(split)) for split in ("train", "val", "test")} == {total}
    part = cls(name, test=name, data_dir=str(tmp_path), val_share=0.25)
    assert [len(part.examples(split)) for split in ("train", "val", "test")] == [
        total - round(0.25 * total),
        round(0.25 * total),
        total,
    ]
    unvalidated = cls(str(path), val_share=0)
    assert unvalidated.examples("val") == unvalidated.val_dataloader() == []
    assert named.spec.max_length == max(named.lengths("train"))


@pytest.mark.parametrize("kind", FILES)
def test_a_file_with_a_byte_order_mark_in_another_encoding_blank_or_missing(kind: str, tmp_path: Path) -> None:
    cls, name, text = FILES[kind]
    path, other = tmp_path / name, tmp_path / f"other-{name}"
    path.write_text(text)
    other.write_text(text, encoding="utf-8-sig", newline="\r\n")
    plain, marked = cls(str(path)), cls(str(other))
    assert plain.spec == marked.spec
    assert getattr(plain, "vocabularies", None) == getattr(marked, "vocabularies", None)
    other.write_bytes(text.encode("utf-16"))
    with pytest.raises(ValueError, match=rf"other-{name} is no text in UTF-8: line 1"):
        _ = cls(str(other)).splits
    other.write_text(" \n")
    with pytest.raises(ValueError, match=rf"other-{name} is blank"):
        _ = cls(str(path), test=str(other)).splits
    with pytest.raises(FileNotFoundError, match=rf"no file .*nowhere.{name}: val must name a file"):
        _ = cls(str(path), val=str(tmp_path / "nowhere" / name)).splits
    with pytest.raises(FileNotFoundError, match=r"a folder, not a file: .*: val must name a file"):
        _ = cls(str(path), val=str(tmp_path)).splits


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"val_share 0\.5 and test_share 0\.5 leave nothing to train on"):
        PlainText("a.txt", val_share=0.5, test_share=0.5)
    with pytest.raises(ValueError, match="test_share is 0 and there is no test file"):
        PlainText("a.txt", test_share=0.0)
    with pytest.raises(ValueError, match="val_share must be a share"):
        PlainText("a.txt", val_share=1.0)
    assert PlainText("a.txt", val="b.txt", val_share=0.5, test_share=0.6).shares == {"val": 0.0, "test": 0.6}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FILES)
def test_a_comparison_runs_on_own_files_and_says_what_they_are(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cls, name, text = FILES[kind]
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)
    few = ["--model.hidden_size", "4", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--norms", "ln"]
    own = ["--data", f"rnnnorm.data.{cls.__name__}", "--data.train", name, "--data.batch_size", "64"]
    assert main(["compare", *own, *few, "--out", "out", "--data.val_share", "0"]) == 0
    said = capsys.readouterr().out
    count = len(cls(name, val_share=0).examples("train"))
    assert f"train: {count} sequences of" in said
    assert "val:   no sequences" in said
    assert "warning: nothing is validated: the last weights are evaluated, not the best" in said
    assert f"warning: one optimizer step per epoch: a batch holds all {count} training sequences" in said
    assert (tmp_path / "out" / "ln" / "seed=0" / "result.json").is_file()
