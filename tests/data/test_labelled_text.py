"""Labelled texts of CSV and TSV files."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any

import pytest

from rnnnorm.cli import main
from rnnnorm.data import LabelledText

TRAIN = 'text,label\nBook a flight,book\n"Rain, or ""snow""?",weather\n\n"two\nlines",weather\na flight,book\n'


def written(folder: Path, content: str, name: str = "train.csv") -> str:
    path = folder / name
    path.write_text(content, newline="")
    return str(path)


def own(
    folder: Path, train: str = TRAIN, other: str = "text,label\nBook a zeppelin,book\n", **keys: Any
) -> LabelledText:
    path = written(folder, other, "other.csv")
    return LabelledText(written(folder, train), path, path, **{"min_freq": 1, **keys})


def read(data: LabelledText, split: str) -> list[tuple[list[str], str]]:
    tokens = data.vocabularies[data.level]
    return [([tokens[i] for i in x[:, 0].tolist()], data.class_names[int(y)]) for x, y in data.examples(split)]


def test_fields_are_those_of_the_csv_module(tmp_path: Path) -> None:
    data = own(tmp_path)
    assert read(data, "train") == [
        (["book", "a", "flight"], "book"),
        (["rain,", "or", '"snow"?'], "weather"),
        (["two", "lines"], "weather"),
        (["a", "flight"], "book"),
    ]
    assert (data.spec.task, data.spec.num_outputs, data.spec.max_length) == ("classification", 2, 3)
    assert data.spec.vocabularies == (len(data.vocabularies["word"]),)


def test_the_vocabulary_is_that_of_training(tmp_path: Path) -> None:
    data = own(tmp_path)
    assert read(data, "test") == [(["book", "a", "<unk>"], "book")]
    assert "zeppelin" not in data.vocabularies["word"]
    assert own(tmp_path, min_freq=2).vocabularies["word"] == ["<unk>", "a", "flight"]
    assert own(tmp_path, max_size=1).vocabularies["word"] == ["<unk>", "a"]
    divided = LabelledText(written(tmp_path, "text,label\n" + "".join(f"w{k},x\n" for k in range(40))), min_freq=1)
    assert len(divided.vocabularies["word"]) == 1 + len(divided.examples("train")) == 33
    assert all(int(x) == 0 for split in ("val", "test") for x, _ in divided.examples(split))


def test_characters_and_case(tmp_path: Path) -> None:
    data = own(tmp_path, level="char", lower=False)
    assert read(data, "train")[0] == (list("Book a flight"), "book")
    assert read(data, "test")[0][0].count("<unk>") == 3  # z, p and the other p
    assert set(data.vocabularies) == {"char", "label"}


@pytest.mark.parametrize(
    ("content", "name", "keys"),
    [
        ("x;y\nyes;Go home\nno;Stop\n", "a.csv", {"text": "y", "label": "x", "delimiter": ";"}),
        ("yes,1,Go home\nno,2,Stop\n", "a.csv", {"text": -1, "label": 0, "header": False}),
        ("text\tlabel\nGo home\tyes\nStop\tno\n", "a.tsv", {}),
        ("text\tlabel\r\nGo home\tyes\r\nStop\tno\r\n", "a.tab", {}),
        ("Go home\tyes\nStop\tno\n", "a.txt", {"text": 0, "label": 1, "header": False, "delimiter": "tab"}),
        ("text\tlabel\nGo home\tyes\nStop\tno\n", "a.tsv.gz", {}),
    ],
    ids=["names", "numbers", "tsv", "crlf", "tab", "gz"],
)
def test_columns_are_named_or_numbered(content: str, name: str, keys: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    data = LabelledText(str(path), str(path), str(path), min_freq=1, **keys)
    assert read(data, "val") == [(["go", "home"], "yes"), (["stop"], "no")]


def test_quotes_without_a_meaning(tmp_path: Path) -> None:
    content = 'text\tlabel\n"Go home\tyes\nsay "no"\tno\n'
    path = written(tmp_path, content, "a.tsv")
    with pytest.raises(ValueError, match=r"a\.tsv, line 2: .*; if double quotes have no meaning.*quotes=false"):
        LabelledText(path, path, path).lengths("train")
    data = LabelledText(path, path, path, min_freq=1, quotes=False)
    assert read(data, "train") == [(['"go', "home"], "yes"), (["say", '"no"'], "no")]


@pytest.mark.parametrize(
    ("train", "keys", "message"),
    [
        ("text,label\na,b\nc\n", {}, r"train\.csv, line 3: 1 columns, where the first line has 2"),
        ('text,label\n"a\nb",c\n"d\ne",f,g\n', {}, r"train\.csv, line 4: 3 columns, where the first line has 2"),
        ("words,label\na,b\n", {}, r"train\.csv, line 1: no text column 'text': the file has columns 'words', 'label'"),
        ("text,text,label\na,b,c\n", {}, r"train\.csv, line 1: 2 columns are called 'text', one was expected"),
        ("text,label\na,b\n", {"label": 2}, r"line 1: no label column 2: the file has columns 'text', 'label'"),
        ("a,b\n", {"text": 5, "label": 0, "header": False}, "no text column 5: the file has no header and 2 columns"),
        ("a,b\n", {"header": False}, "text='text' names a column, but with header=false columns are numbers"),
        ("text,label\na,b\n ,c\n", {}, r"train\.csv, line 3: the text is empty"),
        ("text,label\na,b\nc, \n", {}, r"train\.csv, line 3: the label is empty"),
        ("text,label\n", {}, r"train\.csv has no sequences"),
        ('text,label\na,b\n"c\n', {}, r"train\.csv, line 3: unexpected end of data"),
    ],
)
def test_what_is_wrong_has_its_line(train: str, keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = written(tmp_path, train)
    with pytest.raises(ValueError, match=message):
        LabelledText(path, path, path, **keys).lengths("train")


def test_a_label_that_training_has_not(tmp_path: Path) -> None:
    other = "text,label\nBook a flight,book\nHello,greeting\n"
    with pytest.raises(
        ValueError, match=r"other\.csv, line 3: label 'greeting', expected one of book, weather.*unknown_labels=true"
    ):
        own(tmp_path, other=other).lengths("train")
    data = own(tmp_path, other=other, unknown_labels=True)
    assert data.class_names == ["book", "weather", "<unk>"]
    assert [label for _, label in read(data, "test")] == ["book", "<unk>"]
    assert own(tmp_path, unknown_labels=True).class_names == ["book", "weather"], "only if there are some"


def test_a_checkpoint_of_other_labels_is_refused(tmp_path: Path) -> None:
    data = own(tmp_path)
    state = pickle.loads(pickle.dumps(data.state_dict()))
    own(tmp_path).load_state_dict(state)
    with pytest.raises(ValueError, match="vocabulary of 'label' has 2 entries and the data's has 3"):
        own(tmp_path, train=TRAIN + "a flight,other\n").load_state_dict(state)


@pytest.mark.parametrize("delimiter", ["", "||", '"'])
def test_a_delimiter_is_one_character(delimiter: str) -> None:
    with pytest.raises(ValueError, match="delimiter must be one character"):
        LabelledText("a.csv", delimiter=delimiter)


def test_columns_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "yes,Go home\n" * 10)
    out = ["--out", str(tmp_path / "out"), "--norms", "none"]
    columns = ["--data.text=-1", "--data.label", "7", "--data.header", "false"]
    assert main(["compare", "--data", "LabelledText", "--data.train", path, *columns, *out]) == 2
    assert "no label column 7: the file has no header and 2 columns" in capsys.readouterr().err


def test_a_text_of_two_hundred_thousand_characters(tmp_path: Path) -> None:
    long = "ab " * 70_000
    data = own(tmp_path, other=f'text,label\n"{long}",book\n')
    assert data.lengths("test") == [70_000]
