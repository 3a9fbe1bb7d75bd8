"""Reports over several data sets: folders, tables, page, files."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import pytest
from report.test_report import Page

from rnnnorm.cli import main
from rnnnorm.common.folder_names import norm_folder
from rnnnorm.report.several import build_several, overview_several
from rnnnorm.report.several.aggregate import aggregate
from rnnnorm.report.several.folders import read_several
from rnnnorm.report.several.notes import findings, score_notes
from rnnnorm.report.several.ranks import rank
from rnnnorm.report.several.tables import scores_grid

Scores = Mapping[str, Sequence[float | None]]
GOOD: Scores = {"none": [0.80, 0.81, 0.79], "ln": [0.90, 0.912, 0.889], "bn-vertical": [0.70, 0.85, 0.80]}
BPC: Scores = {"none": [2.0, 2.1, 2.05], "ln": [1.5, 1.62, 1.54], "bn-vertical": [2.2, 2.0, 2.1]}


def comparison(
    out: Path, scores: Scores, metric: str = "accuracy", better: str = "max", baseline: str = "none", **status: str
) -> Path:
    """Finished runs with given scores, one per seed; None: diverged before it had one."""
    for norm, values in scores.items():
        for seed, value in enumerate(values):
            folder = out / norm_folder(norm) / f"seed={seed}"
            folder.mkdir(parents=True)
            ending = "diverged" if value is None else status.get(norm, "finished")
            test = {} if value is None else {"running": {metric: value}}
            result = {"norm": norm, "seed": seed, "status": ending, "task": "classification", "metric": metric,
                      "metric_mode": better, "steps": 10, "test": test}  # fmt: skip
            (folder / "result.json").write_text(json.dumps(result))
    (out / "data.json").write_text(json.dumps({"baseline": baseline, "data": "rnnnorm.data.Names"}))
    return out


def two(tmp_path: Path) -> list[Path]:
    return [comparison(tmp_path / "a", GOOD), comparison(tmp_path / "b", BPC, "bpc", "min")]


def notes(folders: Sequence[Path], baseline: str | None = None) -> str:
    several = read_several(folders, baseline)
    found, _ = aggregate(several)
    return "\n".join([*score_notes(several), *findings(several, found, rank(several))])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_files(tmp_path: Path) -> None:
    page = build_several(two(tmp_path), tmp_path / "out", formats=["pdf"])
    text = page.read_text(encoding="utf-8")
    parsed = Page(text)
    assert len(parsed.ids) == len(set(parsed.ids))
    links = [unquote(link) for link in re.findall(r'<a href="([^"]+)"', text)]
    panels = {f"figures/{path.name}" for path in (tmp_path / "out/figures").iterdir()}
    assert links[:2] == ["../a/report.html", "../b/report.html"]
    assert set(links[2:]) == panels
    assert all((page.parent / link).is_file() for link in links)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "summary.md", "profile.csv", "figures", *(
        f"{table}.{kind}" for table in ("scores", "aggregates") for kind in ("csv", "tex"))}  # fmt: skip
    figures = ("relative-improvement", "probability-of-improvement", "performance-profile", "average-ranks")
    assert {p.name for p in (tmp_path / "out/figures").iterdir()} == {
        f"{f}.{k}" for f in figures for k in ("svg", "pdf")
    }
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    build_several(two_again(tmp_path), tmp_path / "out")
    assert [path.name for path, content in before.items() if path.read_bytes() != content] == []
    overview_several(two_again(tmp_path))


def two_again(tmp_path: Path) -> list[Path]:
    return [tmp_path / "a", tmp_path / "b"]


def test_scores(tmp_path: Path) -> None:
    folders = two(tmp_path)
    grid = scores_grid(read_several(folders))
    assert grid.head == ["norm", "a (accuracy ↑)", "b (bpc ↓)"]
    assert [row[0] for row in grid.rows] == ["ln", "none", "bn-vertical"]
    assert grid.rows[0][1].endswith("⁺")
    assert grid.rows[0][2].endswith("⁺")
    assert grid.strong == {(0, 1), (0, 2)}
    assert not any("⁺" in field or "⁻" in field for row in grid.rows[1:] for field in row)
    build_several(folders, tmp_path / "out")
    found = {(row["data_set"], row["norm"]): row for row in rows(tmp_path / "out/scores.csv")}
    assert float(found["a", "ln"]["mean"]) == pytest.approx(0.9003333)
    assert float(found["b", "ln"]["difference"]) == pytest.approx((0.5 + 0.48 + 0.51) / 3)
    assert found["b", "none"]["p_holm"] == ""


def test_the_best_norm_is_bold_only_if_it_can_be_told_apart(tmp_path: Path) -> None:
    close = {"none": [0.80, 0.81, 0.79], "ln": [0.90, 0.60, 0.95]}
    grid = scores_grid(read_several([comparison(tmp_path / "a", GOOD), comparison(tmp_path / "c", close)]))
    assert grid.strong == {(0, 1)}


def test_aggregates(tmp_path: Path) -> None:
    build_several(two(tmp_path), tmp_path / "out")
    found = {row["norm"]: row for row in rows(tmp_path / "out/aggregates.csv")}
    # Errors .10/.20, .088/.19, .111/.21 and bits 1.5/2, 1.62/2.1, 1.54/2.05, of which the middle half is over 6 values.
    z = sorted(
        (b - a) / (b + a) for a, b in [(0.1, 0.2), (0.088, 0.19), (0.111, 0.21), (1.5, 2), (1.62, 2.1), (1.54, 2.05)]
    )
    assert float(found["ln"]["iqm"]) == pytest.approx((0.5 * z[1] + z[2] + z[3] + 0.5 * z[4]) / 3)
    assert float(found["ln"]["improvement"]) == 1
    assert float(found["ln"]["simultaneous_low"]) > 0
    assert found["none"]["iqm"] == ""
    assert float(found["ln"]["average_rank"]) == 1
    said = notes(two_again(tmp_path))
    assert "Better than `none` over 2 data sets, relative improvement: `ln` by +0." in said
    assert "No difference from `none` over the data sets can be shown for `bn-vertical`" in said


def test_average_ranks_by_hand(tmp_path: Path) -> None:
    scores = [
        {"none": [0.5, 0.7], "ln": [0.6, 0.6], "wn": [0.9, None]},  # equal means; a run without a score comes last
        {"none": [0.1, 0.1], "ln": [0.2, 0.2], "wn": [0.3, 0.3]},
    ]
    ranks = rank(read_several([comparison(tmp_path / str(k), its) for k, its in enumerate(scores)]))
    assert ranks.means == {"none": (1.5 + 3) / 2, "ln": (1.5 + 2) / 2, "wn": (3 + 1) / 2}
    assert math.isnan(ranks.p)


def test_ranks_are_tested_with_six_data_sets(tmp_path: Path) -> None:
    order: Scores = {"none": [0.5, 0.51], "ln": [0.6, 0.61], "wn": [0.7, 0.71]}
    folders = [comparison(tmp_path / str(k), order) for k in range(6)]
    assert "With 5 data sets no test of ranks means anything" in notes(folders[:5])
    assert "With 2 data sets no test of ranks means anything" in notes(folders[:2])
    said = notes(folders)
    assert re.search("Friedman test p = 0.0001[0-9]?,", said)  # 6 of 6⁶ arrangements
    assert "critical difference 1.35 (Nemenyi); not to be told apart: `wn` and `ln`; `ln` and `none`" in said


def test_norms_that_are_missing_are_used_where_they_are(tmp_path: Path) -> None:
    folders = [comparison(tmp_path / "a", GOOD), comparison(tmp_path / "b", {k: v for k, v in BPC.items() if k != "ln"},
                                                            "bpc", "min")]  # fmt: skip
    said = notes(folders)
    assert "Used where they are: ln has no score on b." in said
    assert "over 1 data set, relative improvement: `ln`" in said
    several = read_several(folders)
    assert set(rank(several).norms) == {"none", "bn-vertical"}
    assert {one.norm: list(one.values) for one in aggregate(several)[0]} == {"ln": ["a"], "bn-vertical": ["a", "b"]}


def test_one_spelling_per_norm(tmp_path: Path) -> None:
    first: Scores = {"none": [0.5, 0.6], "bn-timestep:gain=1:max_steps=50": [0.6, 0.7], "ln:gain=1.0": [0.5, 0.6]}
    second: Scores = {"none": [0.5, 0.6], "bn-timestep:max_steps=50:gain=1.0": [0.6, 0.7], "ln": [0.5, 0.6]}
    several = read_several([comparison(tmp_path / "a", first), comparison(tmp_path / "b", second)])
    assert set(several.norms) == set(first)
    assert (
        "bn-timestep:max_steps=50:gain=1.0 of b is bn-timestep:gain=1:max_steps=50, written differently."
        in several.spelled
    )
    assert not several.missing


def test_two_spellings_in_one_folder_stay_apart(tmp_path: Path) -> None:
    both: Scores = {"none": [0.5, 0.6], "ln": [0.5, 0.6], "ln:gain=1.0": [0.6, 0.7]}
    several = read_several([comparison(tmp_path / "a", both), comparison(tmp_path / "b", both)])
    assert all(set(one.rows) == set(both) for one in several.sets)


def test_baselines(tmp_path: Path) -> None:
    same = [comparison(tmp_path / "a", GOOD, baseline="ln"), comparison(tmp_path / "b", BPC, "bpc", "min", "ln")]
    assert read_several(same).baseline == "ln"
    assert read_several(same, "bn-vertical").baseline == "bn-vertical"
    other = comparison(tmp_path / "c", GOOD, baseline="bn-vertical")
    assert read_several([*same, other]).baseline == "none"
    without = comparison(tmp_path / "d", {"ln": [0.5, 0.6], "wn": [0.4, 0.5]}, baseline="wn")
    with pytest.raises(ValueError, match=r"different baselines, ln \(a\), ln \(b\) and wn \(d\); --baseline NORM"):
        read_several([*same, without])
    with pytest.raises(ValueError, match="--baseline rms: no folder has runs of it; there are: bn-vertical, ln"):
        read_several(same, "rms")
    said = notes([tmp_path / "a", without], "none")
    assert "No score of the baseline none on d: shown, but not part of any aggregate." in said


def test_unequal_seeds_and_one_seed(tmp_path: Path) -> None:
    few = {norm: values[:1] for norm, values in BPC.items()}
    folders = [comparison(tmp_path / "a", GOOD), comparison(tmp_path / "b", few, "bpc", "min")]
    said = notes(folders)
    assert "Seeds: 3 on a, 1 on b." in said
    assert "One seed on b: no interval over seeds, there or in aggregates." in said
    assert "No interval over the data sets for differences from `none`" in said
    build_several(folders, tmp_path / "out")


def test_diverged_and_cut_runs(tmp_path: Path) -> None:
    scores: Scores = {
        "none": [0.5, 0.6, 0.55],
        "ln": [None, None, None],
        "wn": [0.7, None, 0.8],
        "bn-vertical": [0.4, 0.5, 0.6],
    }
    folders = [comparison(tmp_path / "a", scores, **{"bn-vertical": "cut"}), comparison(tmp_path / "b", GOOD)]
    several = read_several(folders)
    cells = {row[0]: row[1] for row in scores_grid(several).rows}
    assert cells["ln"] == "3 diverged"
    assert cells["wn"].endswith("(1 diverged of 3)")
    assert cells["bn-vertical"] == "3 cut"
    assert "ln has no score on a" in notes(folders)
    wn = next(one for one in aggregate(several)[0] if one.norm == "wn")
    assert sorted(wn.values["a"])[0] == -1
    build_several(folders, tmp_path / "out", formats=["svg"])


def test_a_metric_without_a_zero_counts_in_ranks_only(tmp_path: Path) -> None:
    rewards: Scores = {"none": [10.0, 12.0], "ln": [15.0, 17.0]}
    several = read_several([comparison(tmp_path / "a", rewards, "reward"), comparison(tmp_path / "b", GOOD)])
    found, skipped = aggregate(several)
    assert skipped == ["a"]
    ln = next(one for one in found if one.norm == "ln")
    assert list(ln.values) == ["b"]
    assert ln.improvement.n == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "b"], "2 folders: --out DIR says where"),
        (["a", "a/../a", "--out", "out"], "a/../a is given twice"),
        (["a", "b", "--out", "b"], "--out b is the folder of a comparison"),
        (["a", "empty", "--out", "out"], "no runs in empty"),
        (["a", "nowhere", "--out", "out"], "nowhere is not a folder"),
        (["a", "b", "--out", "out", "--figures", "png"], "figures as png: expected svg or pdf"),
        (["a", "b", "--out", "out", "--baseline", "rms"], "--baseline rms: no folder has runs of it"),
        (["a", "--out", "out"], "--out out is for several folders"),
    ],
)
def test_errors_have_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    two(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["report", "a", "b", "--out", "out", "--baseline", "ln"]) == 0
    assert "report: out/report.html" in capsys.readouterr().out
    assert "against ln" in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_folders_of_the_same_name_have_longer_labels(tmp_path: Path) -> None:
    folders = [comparison(tmp_path / x / "default", GOOD) for x in ("one", "two")]
    assert [one.label for one in read_several(folders).sets] == ["one/default", "two/default"]
