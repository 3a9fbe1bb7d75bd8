"""Numbers, their file, and their mean."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from bench.made_records import SMALL, WIDE, record, table, whole_run
from pandas.testing import assert_frame_equal

from rnnnorm.bench import Record, geometric_mean, load, save, summarize
from rnnnorm.bench.records import OURS, RATIO, TORCH, pick


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    run, path = whole_run(), tmp_path / "bench.json"
    save(run, path)
    loaded = load(path)
    assert (loaded.command, loaded.machine) == (run.command, run.machine)
    assert_frame_equal(loaded.records, run.records)
    assert loaded.records["shape"][0].T == SMALL.T  # a Shape, not a list
    assert loaded.records["ms"].isna().any()


def test_the_file_is_a_flat_list_with_a_summary_and_its_origin(tmp_path: Path) -> None:
    run, path = whole_run(), tmp_path / "bench.json"
    save(run, path)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert list(document) == ["command", "machine", "summary", "records"]
    assert document["command"] == run.command
    assert document["machine"] == run.machine
    assert len(document["records"]) == len(run.records)
    assert all(tuple(row) == Record._fields for row in document["records"])
    assert document["records"][0]["shape"] == list(SMALL)
    assert {type(row["ms"]) for row in document["records"]} == {float, type(None)}  # NaN is no JSON
    assert document["summary"] == summarize(run.records).to_dict("records")
    assert path.read_text(encoding="utf-8").endswith("}\n")


def test_fields_that_a_later_version_adds_are_passed_over(tmp_path: Path) -> None:
    run, path = whole_run(), tmp_path / "bench.json"
    save(run, path)
    document = json.loads(path.read_text(encoding="utf-8"))
    document["later"] = 1
    for row in document["records"]:
        row["later"] = 1
    path.write_text(json.dumps(document), encoding="utf-8")
    assert_frame_equal(load(path).records, run.records)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"shape,ratio\n1,2\n",
        b'{"records": [',
        b"[1, 2, 3]",
        b'{"command": "", "machine": "abc", "records": []}',
        b"null",
        b'{"experiment": "default"}',
        b'{"command": "c", "machine": {}, "records": 3}',
        b'{"command": "c", "machine": {}, "records": [{"part": "dense"}]}',
        b'{"machine": {}, "records": []}',
        b'{"command": "c", "machine": 3, "records": []}',
        b"\x89PNG\r\n\x1a\n\x00\xff",
    ],
    ids=[
        "empty",
        "csv",
        "cut off",
        "list",
        "word",
        "null",
        "other",
        "number",
        "fields",
        "command",
        "machine",
        "binary",
    ],
)
def test_a_foreign_file_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "foreign.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"foreign\.json is no file that `rnnnorm bench --json` wrote"):
        load(path)


def test_a_record_with_half_a_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    save(whole_run(), path)
    document = json.loads(path.read_text(encoding="utf-8"))
    document["records"][0]["shape"] = [1, 2, 3]
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ValueError, match="is no file that"):
        load(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        load(tmp_path / "nowhere.json")


def test_the_geometric_mean_does_not_depend_on_the_side_of_a_ratio() -> None:
    values = [0.5, 1.3, 2.0, 7.0]
    assert geometric_mean(values) == pytest.approx(math.prod(values) ** 0.25, rel=1e-12)
    assert geometric_mean(1 / value for value in values) == pytest.approx(1 / geometric_mean(values), rel=1e-12)
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0, abs=1e-15)
    assert geometric_mean([3.0]) == pytest.approx(3.0, rel=1e-12)
    assert geometric_mean([1e300] * 5) == pytest.approx(1e300, rel=1e-9)  # the product alone would overflow


@pytest.mark.parametrize("values", [[], [1.0, 0.0], [2.0, -1.0]], ids=str)
def test_a_geometric_mean_needs_positive_values(values: list[float]) -> None:
    with pytest.raises(ValueError, match="needs positive values"):
        geometric_mean(values)


def test_pick_wants_all_fields_to_fit() -> None:
    rows = table(record(1.0), record(2.0, norm="none"), record(3.0, shape=WIDE), record(4.0, contender=TORCH, norm=""))
    assert list(pick(rows)["median"]) == [1, 2, 3, 4]
    assert list(pick(rows, norm="ln", metric=RATIO)["median"]) == [1, 3]
    assert list(pick(rows, contender=OURS)["median"]) == [1, 2, 3]
    assert pick(rows, norm="wn").empty
    with pytest.raises(KeyError, match="nope"):
        pick(rows, nope=1)
