from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from rnnnorm.data import JapaneseVowels
from rnnnorm.data.ts import read_ts

REAL = os.environ.get("RNNNORM_DATA")
HEADER = "#A comment: with a colon\n@problemName JapaneseVowels\n@equalLength false\n@classLabel true 1 2\n@data\n"


def line(speaker: int, steps: int, channels: int = 12) -> str:
    """A series whose value at step t of channel c is 100 · speaker + t + c / 100."""
    values = (",".join(f"{100 * speaker + t + c / 100:g}" for t in range(steps)) for c in range(channels))
    return ":".join([*values, str(speaker)]) + "\n"


@pytest.fixture
def data_dir(tmp_path: Path) -> str:
    """The upstream layout: 12 training and 2 test utterances of each of the nine speakers."""
    folder = tmp_path / "japanese_vowels"
    folder.mkdir()
    train = [line(speaker, steps) for speaker in range(1, 10) for steps in range(7, 19)]
    (folder / "JapaneseVowels_TRAIN.ts").write_text(HEADER + "".join(train))
    test = [line(speaker, steps) for speaker in range(1, 10) for steps in (7, 29)]
    (folder / "JapaneseVowels_TEST.ts").write_text(HEADER + "".join(test))
    return str(tmp_path)


def test_series_are_read_as_steps_by_channels(tmp_path: Path) -> None:
    path = tmp_path / "series.ts"
    path.write_text(HEADER + "1,2,3:4,5,6:a\n\n7:-8e-1:b\n")
    (first, a, at), (second, b, _) = read_ts(path).series
    np.testing.assert_array_equal(first, [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_allclose(second, [[7, -0.8]])
    assert (a, b, at) == ("a", "b", 6)


def test_every_sixth_utterance_of_a_speaker_is_for_validation(data_dir: str) -> None:
    data = JapaneseVowels(data_dir=data_dir, download=False)
    assert [len(data.lengths(split)) for split in ("train", "val", "test")] == [90, 18, 18]
    assert set(Counter(int(speaker) for _, speaker in data.examples("val")).values()) == {2}
    assert set(data.lengths("val")) == {12, 18}
    assert data.spec.max_length == 17


def test_rows_and_speakers_belong_together(data_dir: str) -> None:
    data = JapaneseVowels(data_dir=data_dir, download=False)
    for split in ("train", "val", "test"):
        for rows, speaker in data.examples(split):
            assert rows.shape == (len(rows), data.spec.num_features)
            assert rows.dtype == torch.float32
            steps = torch.arange(len(rows)).unsqueeze(1) + torch.arange(12) / 100
            torch.testing.assert_close(rows, 100 * (speaker + 1) + steps)
    assert data.spec.num_outputs == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2:3,4:1\n", "has no line @data"),
        (HEADER + "1,2,3\n", "line 6: no channels before the class"),
        (HEADER + "1,2:3:1\n", "line 6: channels of 1 to 2 steps, but all must have equally many"),
        (HEADER + "1,2:3,?:1\n", "line 6: the value of channel 1 at step 1 is missing"),
    ],
    ids=["no header", "no channels", "unequal channels", "missing value"],
)
def test_another_file_is_an_error(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "series.ts"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_ts(path)


@pytest.mark.parametrize("wrong", [line(1, 5, channels=11), line(10, 5)], ids=["11 channels", "tenth speaker"])
def test_another_data_set_is_an_error(wrong: str, data_dir: str) -> None:
    with (Path(data_dir) / "japanese_vowels" / "JapaneseVowels_TEST.ts").open("a") as file:
        file.write(wrong)
    with pytest.raises(ValueError, match="utterance 18 is of speaker"):
        JapaneseVowels(data_dir=data_dir, download=False).lengths("test")


@pytest.mark.skipif(REAL is None, reason="RNNNORM_DATA is not set")
def test_real_files() -> None:
    data = JapaneseVowels(download=False)
    official = data.lengths("train") + data.lengths("val")
    assert (len(official), sum(official), min(official), max(official)) == (270, 4274, 7, 26)
    assert np.median(official) == 15
    assert (len(data.lengths("test")), max(data.lengths("test"))) == (370, 29)
