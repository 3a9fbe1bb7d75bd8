"""Tagged sentences of column files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rnnnorm.data import TaggedText

CONLL = """\
-DOCSTART- -X- -X- O

# a comment of more than four words
fly VB B-VP O
to TO B-PP O
Oslo NNP B-NP B-city


# again
# and again
# # # O
"""
SLOTS = "New York\tB-city\nplease\tO\n"


def own(folder: Path, train: str, other: str | None = None, **keys: Any) -> TaggedText:
    (folder / "train.txt").write_text(train, newline="")
    (folder / "other.txt").write_text(train if other is None else other, newline="")
    path = str(folder / "other.txt")
    return TaggedText(str(folder / "train.txt"), path, path, **{"features": ["word"], "min_freq": 1, **keys})


def read(data: TaggedText, split: str = "train") -> list[list[tuple[str, str]]]:
    words, tags = data.vocabularies["word"], data.class_names
    return [
        [(words[i], tags[k]) for i, k in zip(x[:, 0].tolist(), y.tolist(), strict=True)]
        for x, y in data.examples(split)
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n \n"], ids=["no end", "one line feed", "blank lines"])
def test_sentences_end_with_a_blank_line_or_the_file(end: str, newline: str, tmp_path: Path) -> None:
    text = (CONLL.rstrip("\n") + end).replace("\n", newline)
    sentence = [("fly", "O"), ("to", "O"), ("oslo", "B-city")]
    assert read(own(tmp_path, text)) == [sentence]
    assert read(own(tmp_path, text.replace("# # # O", "O # # O"))) == [sentence, [("o", "O")]]


def test_lines_that_begin_with_a_hash_are_words_within_a_sentence_or_if_there_are_no_comments(tmp_path: Path) -> None:
    assert read(own(tmp_path, "no O\n# B\n5 I\n")) == [[("no", "O"), ("#", "B"), ("5", "I")]]
    assert read(own(tmp_path, "# B\n5 I\n", comments=False)) == [[("#", "B"), ("5", "I")]]
    assert read(own(tmp_path, "# B\n5 I\n")) == [[("5", "I")]]


def test_columns_are_separated_by_tabs_or_white_space(tmp_path: Path) -> None:
    assert read(own(tmp_path, SLOTS)) == [[("new york", "B-city"), ("please", "O")]]
    assert read(own(tmp_path, "fly  O\nOslo     B\n")) == [[("fly", "O"), ("oslo", "B")]]


def test_columns_are_chosen(tmp_path: Path) -> None:
    data = own(tmp_path, CONLL, tag=1, lower=False)
    assert read(data) == [[("fly", "VB"), ("to", "TO"), ("Oslo", "NNP")]]
    assert set(own(tmp_path, CONLL, token=1, tag=-2).class_names) == {"B-VP", "B-PP", "B-NP"}


def test_features_are_those_of_part_of_speech_tagging(tmp_path: Path) -> None:
    data = own(tmp_path, CONLL, features=["word", "suffix2", "shape"])
    assert len(data.spec.vocabularies) == 3
    assert data.spec.task == "tagging"
    assert (data.spec.num_outputs, data.spec.max_length) == (2, 3)
    assert list(data.vocabularies) == ["word", "suffix2", "shape", "tags"]


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        ("a O\n\n# x\nb c O\n", {}, r"line 4: 3 space-separated columns, where the first word has 2: 'b c O'"),
        ("a\tO\nb O\n", {}, r"line 2: 1 tab-separated columns, where the first word has 2"),
        ("a O\n", {"tag": 2}, r"line 1: no tag column 2: the line has 2: 'a O'"),
        ("a O\n", {"token": -3}, r"line 1: no token column -3"),
        ("a\n", {}, r"line 1: token and tag are the same column, the only one: 'a'"),
        ("a\tO\nb\t\n", {}, r"line 2: the tag is empty"),
        ("# only\n", {}, r"train\.txt has no sequences"),
    ],
)
def test_what_is_wrong_has_its_line(text: str, keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        own(tmp_path, text, **keys).lengths("train")


def test_a_tag_that_training_has_not(tmp_path: Path) -> None:
    other = "# x\nplease\tO\n\nnew\tO\nOslo\tI-city\n"
    with pytest.raises(ValueError, match=r"other\.txt, line 5: label 'I-city', expected one of B-city, O"):
        own(tmp_path, SLOTS, other).lengths("train")
    data = own(tmp_path, SLOTS, other, unknown_labels=True)
    assert data.class_names == ["B-city", "O", "<unk>"]
    assert read(data, "test") == [[("please", "O")], [("<unk>", "O"), ("<unk>", "<unk>")]]
