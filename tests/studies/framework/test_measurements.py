"""The table of measurements, in memory and after a round trip through its file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from studies.tables import keep, reread

from rnnnorm.studies.framework.measurements import collect, difference, per_seed, read, where
from rnnnorm.studies.framework.trial import Trial


def trials() -> list[Trial]:
    return [
        Trial({"batch": batch, **extra}, norm, seed)
        for batch, extra in ((4, {}), (8, {"rate": 0.1 + 0.2}), (16, {"what": "none"}))
        for norm in ("none", "ln", "bn-timestep:gain=1.0")
        for seed in (0, 1, 7)
    ]


def table(out: Path) -> pd.DataFrame:
    random = np.random.default_rng(0)
    for trial in trials():
        rows = [{"quantity": "accuracy", "mode": mode, "value": random.normal()} for mode in ("running", "batch")]
        rows += [{"quantity": "norm", "t": t, "value": 10 ** random.normal(0, 30)} for t in range(3)]
        rows += [{"quantity": "loss", "value": value} for value in (math.inf, -math.inf, math.nan)]
        keep(rows, trial, out)
    return collect(trials(), out)


def test_all_rows_are_there_with_their_conditions(tmp_path: Path) -> None:
    found = table(tmp_path)
    assert len(found) == len(trials()) * 8
    assert list(found.columns)[-1] == "value"
    assert set(found.columns) == {"batch", "rate", "what", "norm", "seed", "quantity", "mode", "t", "value"}
    assert found["value"].dtype == np.float64
    assert len(where(found, batch=8, norm="ln", seed=7, quantity="accuracy", mode="batch")) == 1


def test_a_round_trip_changes_nothing(tmp_path: Path) -> None:
    before = table(tmp_path)
    after = reread(before, tmp_path)
    pd.testing.assert_frame_equal(before, after, check_exact=True)
    assert reread(after, tmp_path / "again").to_csv() == after.to_csv()


def test_numbers_survive_to_the_last_digit(tmp_path: Path) -> None:
    values = 10 ** np.random.default_rng(1).uniform(-300, 300, 3000)
    before = pd.DataFrame({"norm": "ln", "seed": 0, "rate": values, "quantity": "x", "value": values})
    after = reread(before, tmp_path)
    assert (after["value"].to_numpy() == values).all()
    assert len(where(after, rate=float(values[0]))) == 1


def test_the_norm_none_is_a_norm(tmp_path: Path) -> None:
    before = table(tmp_path)
    for found in (before, reread(before, tmp_path)):
        assert set(found["norm"]) == {"none", "ln", "bn-timestep:gain=1.0"}
        assert len(where(found, norm="none")) == len(found) / 3
        assert len(where(found, what="none")) == len(found) / 3


def test_infinities_are_infinite_and_nan_is_missing(tmp_path: Path) -> None:
    before = table(tmp_path)
    for found in (before, reread(before, tmp_path)):
        losses = where(found, quantity="loss", seed=0, norm="ln", batch=4)["value"].tolist()
        assert losses[:2] == [math.inf, -math.inf]
        assert math.isnan(losses[2])


def test_an_infinite_condition_or_column_is_found_before_and_after(tmp_path: Path) -> None:
    trial = Trial({"limit": math.inf}, "ln", 0)
    keep([{"quantity": "x", "tau": math.inf, "value": 1.0}], trial, tmp_path)
    before = collect([trial], tmp_path)
    for found in (before, reread(before, tmp_path)):
        assert len(where(found, limit=math.inf)) == 1
        assert len(where(found, tau=math.inf)) == 1


def test_ints_beside_missing_ones_are_found(tmp_path: Path) -> None:
    before = table(tmp_path)
    for found in (before, reread(before, tmp_path)):
        assert len(where(found, quantity="norm", t=2)) == len(trials())
        assert len(where(found, quantity="accuracy")) == 2 * len(trials())
        assert set(where(found, quantity="norm")["t"].astype(int)) == {0, 1, 2}


@pytest.mark.parametrize("text", ['a, "b"\n<c> & ü', "none", "None", "NA", "null", "nan", "n/a"])
def test_any_text_survives(text: str, tmp_path: Path) -> None:
    before = pd.DataFrame([{"what": text, "norm": "ln:hidden.gain=0.5", "seed": 0, "quantity": "x", "value": 1.0}])
    assert where(reread(before, tmp_path), what=text)["value"].tolist() == [1.0]


def test_columns_are_there_before_they_are_full(tmp_path: Path) -> None:
    keep([{"quantity": "x", "value": 1}], trials()[0], tmp_path)
    before = collect(trials(), tmp_path, ("mode", "t", "quantity"))
    expected = ["batch", "rate", "what", "norm", "seed", "quantity", "mode", "t", "value"]
    for found in (before, reread(before, tmp_path)):
        assert list(found.columns) == expected
        assert found[["rate", "what", "mode", "t"]].isna().all(axis=None)
        assert where(found, t=0).empty
        assert len(where(found, quantity="x")) == 1


def test_trials_that_were_not_measured_are_left_out(tmp_path: Path) -> None:
    assert collect(trials(), tmp_path).empty
    keep([{"quantity": "x", "value": 1}], trials()[3], tmp_path)
    (path := trials()[4].measured(tmp_path)).parent.mkdir(parents=True)
    path.write_text('[{"quantity": "x", "val')
    found = collect(trials(), tmp_path)
    assert found[["batch", "norm", "seed", "quantity", "value"]].to_dict("records") == [
        {"batch": 4, "norm": "ln", "seed": 0, "quantity": "x", "value": 1.0}
    ]


def test_without_a_file_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"measurements\.csv does not exist: run the study first"):
        read(tmp_path)


def test_where_takes_values_and_lists_and_unknown_columns_have_no_rows() -> None:
    m = pd.DataFrame({"norm": ["none", "ln", "wn"], "seed": [0, 0, 1], "value": [1.0, 2.0, 3.0]})
    assert where(m, norm=["none", "wn"])["value"].tolist() == [1.0, 3.0]
    assert where(m, norm=("ln",), seed=0)["value"].tolist() == [2.0]
    assert where(m, norm={"ln", "wn"}, seed={0, 1})["value"].tolist() == [2.0, 3.0]
    assert where(m, norm=[]).empty
    assert where(m, norm="nope").empty
    assert where(m, nope=1).empty
    assert list(where(m, nope=1).columns) == list(m.columns)
    assert where(m).equals(m)


def test_values_per_seed_are_averaged_and_differences_paired() -> None:
    m = pd.DataFrame(
        [
            *(("ln", 0, 1.0), ("ln", 0, 3.0), ("ln", 2, 5.0), ("ln", 5, 9.0)),
            *(("none", 2, 1.0), ("none", 0, 1.5), ("wn", 1, 1.0)),
        ],
        columns=["norm", "seed", "value"],
    )
    ln, none = per_seed(m, norm="ln"), per_seed(m, norm="none")
    assert ln.to_dict() == {0: 2.0, 2: 5.0, 5: 9.0}
    assert difference(ln, none) == [0.5, 4.0]
    assert difference(none, ln) == [-0.5, -4.0]
    assert difference(ln, per_seed(m, norm="wn")) == []
    assert difference(ln, per_seed(m, norm="nope")) == []
    assert per_seed(m, nope=1).empty


def test_a_seed_that_diverged_stays_infinite_in_its_mean() -> None:
    m = pd.DataFrame({"seed": [0, 0, 1], "value": [math.inf, 1.0, 2.0]})
    assert per_seed(m).tolist() == [math.inf, 2.0]


def test_two_runs_that_both_diverged_are_equal() -> None:
    lost, other = pd.Series({0: np.inf, 1: np.inf, 2: 1.0}), pd.Series({0: np.inf, 1: 2.0, 2: 1.5})
    assert difference(lost, other) == [0.0, np.inf, -0.5]
