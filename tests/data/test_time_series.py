"""Time series of `.ts` files."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rnnnorm.data import JapaneseVowels, TimeSeries, TimeSeriesRegression
from rnnnorm.data.ts import read_ts

REAL = os.environ.get("RNNNORM_DATA")
HEADER = (
    "# two gestures\n@problemName Gestures\n@timeStamps false\n@univariate false\n@classLabel true wave stop\n@data\n"
)
TRAIN = HEADER + "1,2,3:10,20,30:wave\n\n4,5:40,50:stop\n6:60:wave\n"


def own(folder: Path, train: str = TRAIN, other: str | None = None, cls: Any = TimeSeries, **keys: Any) -> Any:
    (folder / "train.ts").write_text(train)
    (folder / "other.ts").write_text(train if other is None else other)
    path = str(folder / "other.ts")
    return cls(str(folder / "train.ts"), path, path, **keys)


def test_series_have_their_own_lengths_and_classes_the_order_of_the_header(tmp_path: Path) -> None:
    data = own(tmp_path)
    assert [x.tolist() for x, _ in data.examples("train")] == [
        [[1, 10], [2, 20], [3, 30]],
        [[4, 40], [5, 50]],
        [[6, 60]],
    ]
    assert [int(y) for _, y in data.examples("test")] == [0, 1, 0]
    assert data.class_names == ["wave", "stop"]
    assert (data.spec.task, data.spec.num_features, data.spec.num_outputs) == ("classification", 2, 2)
    assert data.spec.max_length == 3
    assert own(tmp_path, TRAIN.replace("true wave stop", "true")).class_names == ["stop", "wave"]


def test_the_classes_are_saved(tmp_path: Path) -> None:
    state = own(tmp_path).state_dict()
    own(tmp_path).load_state_dict(state)
    with pytest.raises(ValueError, match="vocabulary of 'class'"):
        own(tmp_path, TRAIN.replace("true wave stop", "true")).load_state_dict(state)


def test_the_header_in_any_case_and_order(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_text("@UNIVARIATE TRUE\n@equallength true\n@CLASSLABEL True a b\n@DATA\r\n1,2:a\r\n3,4:b")
    found = read_ts(tmp_path / "a.ts")
    assert found.kind == "class"
    assert found.classes == ("a", "b")
    assert [(one.values.tolist(), one.label, one.line) for one in found.series] == [
        ([[1], [2]], "a", 5),
        ([[3], [4]], "b", 6),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER.replace("false\n@uni", "true\n@uni"), "has timestamps .* which are not read"),
        (HEADER.replace("true wave stop", "false"), "has no labels"),
        (HEADER, "has no series after @data"),
        (HEADER.replace("@uni", "@dimensions 3\n@uni") + "1:2:wave\n", "line 8: 2 channels, but .* has 3"),
        (HEADER.replace("@uni", "@dimension x\n@uni") + "1:2:wave\n", "@dimension must be a number of at least 1"),
        (HEADER.replace("variate false", "variate true") + "1:2:wave\n", "line 7: 2 channels, but .* has 1"),
        (HEADER.replace("@uni", "@equalLength true\n@uni") + "1:wave\n1,2:wave", "line 9: 2 steps, but .* has 1"),
        (
            HEADER.replace("@uni", "@equalLength true\n@seriesLength 3\n@uni") + "1:wave\n",
            "line 9: 1 steps, but .* has 3",
        ),
        (HEADER + "1,2:1,2:wave\n1,2:wave\n", r"train\.ts, line 8: 1 channels, where the training series have 2"),
        (HEADER + "1,2:wave\n1,2:jump\n", r"train\.ts, line 8: class 'jump', expected one of wave, stop"),
        (HEADER + "1,2:3:wave\n", r"train\.ts, line 7: channels of 1 to 2 steps, but all must have equally many"),
        (HEADER + "1,2:wave\n1,x:stop\n", r"train\.ts, line 8: not channels .* made of numbers"),
        (HEADER + "1,2:wave\n1,1_000:stop\n", r"train\.ts, line 8: not channels .* found ._."),
        (HEADER + "1,2:1,?:stop\n", r"line 7: the value of channel 1 at step 1 is missing"),
        (HEADER + "1,NaN:1,2:stop\n", r"line 7: the value of channel 0 at step 1 is missing"),
        (HEADER + "1,inf:1,2:stop\n", r"sequence 0 of the train split .* feature 0 is inf"),
        (HEADER.replace("class", "target") + "1:2\n", r"has a target for each series: use TimeSeriesRegression"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        own(tmp_path, text).lengths("train")


def test_a_class_or_channel_in_the_test_file_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"other\.ts, line 7: class 'jump', expected one of wave, stop"):
        own(tmp_path, other=HEADER.replace("wave", "jump") + "1,2:3,4:jump\n").lengths("train")
    with pytest.raises(ValueError, match=r"other\.ts, line 7: 1 channels, where the training series have 2"):
        own(tmp_path, other=HEADER + "1,2:wave\n").lengths("train")


def test_missing_values_are_filled_in(tmp_path: Path) -> None:
    text = HEADER + "?,1,?,NaN,3:5,5,5,5,?:wave\n7:7:stop\n"
    [zero, _] = own(tmp_path, text, missing="zero").examples("train")
    assert zero[0].tolist() == [[0, 5], [1, 5], [0, 5], [0, 5], [3, 0]]
    [last, _] = own(tmp_path, text, missing="last").examples("train")
    assert last[0].tolist() == [[0, 5], [1, 5], [1, 5], [1, 5], [3, 5]]


def test_standardized_by_what_was_observed_in_training(tmp_path: Path) -> None:
    train = HEADER + "1,?:7,7:wave\n5,3:7,7:stop\n"
    data = own(tmp_path, train, HEADER + "3,5:9,7:wave\n", missing="zero", standardize=True)
    scale = math.sqrt(8 / 3)  # of 1, 5 and 3
    values = torch.stack([x for x, _ in data.examples("train")])
    torch.testing.assert_close(values[..., 0], torch.tensor([[-2 / scale, 0], [2 / scale, 0]]))
    assert (values[..., 1] == 0).all(), "a constant channel is not divided by zero"
    torch.testing.assert_close(data.examples("test")[0][0], torch.tensor([[0, 2], [2 / scale, 0]]))


def test_regression(tmp_path: Path) -> None:
    text = "@univariate true\n@missing false\n@targetLabel true\n@data\n1,2:0.5\n3:-2e1\n"
    data = own(tmp_path, text, cls=TimeSeriesRegression)
    assert [y.tolist() for _, y in data.examples("train")] == [[0.5], [-20.0]]
    assert (data.spec.task, data.spec.num_features, data.spec.num_outputs) == ("regression", 1, 1)
    with pytest.raises(ValueError, match=r"other\.ts, line 7: target 'much', a number was expected"):
        own(tmp_path, text, text + "4:much\n", cls=TimeSeriesRegression).lengths("train")
    with pytest.raises(ValueError, match="has a class for each series: use TimeSeries, not TimeSeriesRegression"):
        own(tmp_path, cls=TimeSeriesRegression).lengths("train")


@pytest.mark.skipif(REAL is None, reason="RNNNORM_DATA is not set")
def test_vowels_written_as_ts_files_are_read_as_they_were(tmp_path: Path) -> None:
    vowels = JapaneseVowels(download=False)
    paths = {}
    for split in ("train", "val", "test"):
        lines = ["@univariate false", "@dimensions 12", f"@classLabel true {' '.join('123456789')}", "@data"]
        for rows, speaker in vowels.examples(split):
            channels = (",".join(map(str, channel)) for channel in rows.numpy().T)
            lines.append(":".join([*channels, str(int(speaker) + 1)]))
        paths[split] = tmp_path / f"{split}.ts"
        paths[split].write_text("\n".join(lines))
    data = TimeSeries(**{split: str(path) for split, path in paths.items()})
    assert data.spec == vowels.spec
    for split in paths:
        assert len(data.examples(split)) == len(vowels.examples(split))
        for ours, theirs in zip(data.examples(split), vowels.examples(split), strict=True):
            assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(ours, theirs, strict=True))
