"""Time series of tables with a row per step."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnnnorm.data import TimeSeries, TimeSeriesRegression
from rnnnorm.data.series_table import Columns, read_series_table
from rnnnorm.data.table import Dialect

TRAIN = """series,label,x,y
a,wave,1,10
b,stop,4,40
a,wave,2,20
b,stop,5,50

a,wave,3,30
c,wave,6,60
"""


def own(folder: Path, train: str = TRAIN, other: str | None = None, cls: Any = TimeSeries, **keys: Any) -> Any:
    for name, content in (("train.csv", train), ("other.csv", train if other is None else other)):
        (folder / name).write_text(content)
    path = str(folder / "other.csv")
    return cls(str(folder / "train.csv"), path, path, **keys)


def rows(data: Any, split: str = "train") -> list[list[list[float]]]:
    return [x.tolist() for x, _ in data.examples(split)]


def test_rows_of_several_series_may_alternate(tmp_path: Path) -> None:
    data = own(tmp_path)
    assert rows(data) == [[[1, 10], [2, 20], [3, 30]], [[4, 40], [5, 50]], [[6, 60]]]
    assert data.class_names == ["stop", "wave"]
    assert [int(y) for _, y in data.examples("train")] == [1, 0, 1]
    assert (data.spec.num_features, data.spec.num_outputs, data.spec.max_length) == (2, 2, 3)


def test_the_order_is_that_of_a_column(tmp_path: Path) -> None:
    table = "time,who,what,x\n3,a,u,1\n-1,b,v,4\n1.5,a,u,2\n1e1,a,u,3\n0,b,v,5\n"
    keys = {"series": "who", "label": "what"}
    assert rows(own(tmp_path, table, order="time", **keys)) == [[[2], [1], [3]], [[4], [5]]]
    assert rows(own(tmp_path, table, order=0, **keys)) == [[[2], [1], [3]], [[4], [5]]]
    assert rows(own(tmp_path, table, **keys)) == [[[3, 1], [1.5, 2], [10, 3]], [[-1, 4], [0, 5]]]


def test_channels_are_those_that_are_named_in_that_order(tmp_path: Path) -> None:
    table = TRAIN.replace("x,y", "y,x")
    assert rows(own(tmp_path, TRAIN, table, channels=["y", "x"]), "test")[2] == [[6, 60]]
    assert rows(own(tmp_path, TRAIN, table, channels="y, x"), "test")[2] == [[6, 60]]
    assert rows(own(tmp_path, TRAIN, channels=[-1]))[2] == [[60]]


def test_other_files_must_have_the_same_columns_of_values(tmp_path: Path) -> None:
    data = own(tmp_path, TRAIN, TRAIN.replace("x,y", "y,x"))
    with pytest.raises(ValueError, match=r"other.csv, line 1: the columns of values are y, x, but those .* x, y"):
        data.examples("test")


def test_the_target_is_a_column(tmp_path: Path) -> None:
    table = TRAIN.replace("label", "target").replace("wave", "0.5").replace("stop", "-2")
    data = own(tmp_path, table, cls=TimeSeriesRegression)
    assert [y.item() for _, y in data.examples("train")] == [0.5, -2, 0.5]
    data = own(tmp_path, TRAIN, cls=TimeSeriesRegression, label="x", channels=["y"])
    with pytest.raises(ValueError, match="line 4: series 'a' is labelled '2', but '1' in line 2"):
        data.examples("train")


@pytest.mark.parametrize("missing", ["", " ", "?", "NaN", "na"])
def test_missing_values(missing: str, tmp_path: Path) -> None:
    table = TRAIN.replace("wave,2,20", f"wave,{missing},20")
    assert rows(own(tmp_path, table, missing="last"))[0] == [[1, 10], [1, 20], [3, 30]]
    assert rows(own(tmp_path, table, missing="zero"))[0] == [[1, 10], [0, 20], [3, 30]]
    with pytest.raises(ValueError, match="line 4: the value of column 'x' is missing"):
        own(tmp_path, table).examples("train")


def test_tabs_other_delimiters_and_gzip(tmp_path: Path) -> None:
    expected = rows(own(tmp_path))
    with gzip.open(tmp_path / "train.TSV.gz", "wt") as file:
        file.write(TRAIN.replace(",", "\t"))
    (tmp_path / "train.csv").write_text(TRAIN.replace(",", ";"))
    for path, keys in (("train.TSV.gz", {}), ("train.csv", {"delimiter": ";"})):
        whole = str(tmp_path / path)
        assert rows(TimeSeries(whole, whole, whole, **keys)) == expected


def test_as_a_ts_file(tmp_path: Path) -> None:
    (tmp_path / "train.ts").write_text("@classLabel true\n@data\n1,2,3:10,20,30:wave\n4,5:40,50:stop\n6:60:wave\n")
    path = str(tmp_path / "train.ts")
    ts, table = TimeSeries(path, path, path, standardize=True), own(tmp_path, standardize=True)
    for (x, y), (x_ts, y_ts) in zip(table.examples("train"), ts.examples("train"), strict=True):
        assert x.equal(x_ts)
        assert y.equal(y_ts)


@pytest.mark.parametrize(
    ("old", "new", "keys", "words"),
    [
        (
            "series,",
            "sensor,",
            {},
            "line 1: no series column 'series': the file has columns 'sensor',.*; choose by series",
        ),
        ("label,", "class,", {}, "line 1: no label column 'label'"),
        ("x,y", "x,x", {"channels": ["x"]}, "line 1: 2 columns are called 'x'"),
        ("x", "x", {"order": "when"}, "line 1: no order column 'when'"),
        ("x", "x", {"channels": ["x", "z"]}, "line 1: no channels column 'z'"),
        ("x", "x", {"channels": ["x", 2]}, "line 1: column 'x' is named as channel and as channel"),
        ("x", "x", {"order": "x", "channels": ["x"]}, "line 1: column 'x' is named as order and as channel"),
        ("x", "x", {"series": "x", "label": "x"}, "line 1: column 'x' is named as series and as label"),
        ("x", "x", {"channels": []}, "line 1: no column is left for values"),
        ("b,stop,5", ",stop,5", {}, "line 5: column 'series' is empty"),
        ("b,stop,5", "b,wave,5", {}, "line 5: series 'b' is labelled 'wave', but 'stop' in line 3"),
        ("c,wave", "c,", {}, "line 8: column 'label' is empty"),
        ("wave,3,30", "wave,3", {}, "line 7: 3 columns, where the first line has 4"),
        ("wave,3", "wave,2024-01-01", {}, "line 7: column 'x' holds '2024-01-01', a number was expected; .*order"),
        ("wave,3", "wave,1_0", {}, "line 7: column 'x' holds '1_0', a number"),
        ("wave,3", "wave,inf", {}, "line 7: column 'x' holds 'inf', a finite number"),
        ("wave,3", "wave,2", {"order": "x"}, "series 'a' has two rows of order 2"),
        ("wave,3", "wave,", {"order": "x", "missing": "zero"}, "line 7: the value of column 'x' is missing"),
    ],
)
def test_what_is_wrong_has_its_line(old: str, new: str, keys: dict[str, Any], words: str, tmp_path: Path) -> None:
    assert old in TRAIN
    with pytest.raises(ValueError, match=words):
        own(tmp_path, TRAIN.replace(old, new, 1), **keys).examples("train")


def test_a_header_alone_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train.csv has a header and no rows"):
        own(tmp_path, "series,label,x\n").examples("train")


def test_as_pandas_reads_it(tmp_path: Path) -> None:
    """Random series of random lengths, in random order, ordered again by their times."""
    pd = pytest.importorskip("pandas")
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"run": np.repeat(np.arange(30), draw.integers(1, 9, 30))})
    frame["t"] = draw.permutation(len(frame))
    frame["kind"] = frame["run"] % 3
    frame["u"], frame["v"] = draw.normal(size=(2, len(frame)))
    frame.sample(frac=1, random_state=0).to_csv(tmp_path / "a.csv", index=False)
    found = read_series_table(tmp_path / "a.csv", Columns("run", "kind", "t"), "class", Dialect())
    assert found.channels == ("u", "v")
    assert len(found.series) == 30
    by_line = pd.read_csv(tmp_path / "a.csv")
    for one in found.series:
        its = by_line[by_line["run"] == by_line["run"][one.line - 2]].sort_values("t")
        np.testing.assert_array_equal(one.values, its[["u", "v"]].to_numpy(np.float32))
        assert one.label == str(its["kind"].iloc[0])
