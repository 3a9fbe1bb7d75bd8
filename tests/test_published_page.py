"""docs/published.md: it agrees with the measurements behind it, and its verdicts are those of paired differences."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from rnnnorm.compare.comparison import Comparison
from rnnnorm.compare.experiments import published

ROOT = Path(__file__).parents[1]
ROWS = yaml.safe_load((ROOT / "scripts" / "published_rows.yaml").read_text(encoding="utf-8"))
NOISE = (0.0, 0.01, -0.01, 0.005, -0.005)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What scripts/published_page.py defines."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return runpy.run_path(str(ROOT / "scripts" / "published_page.py"))


def comparison(folder: Path, scores: Mapping[str, Sequence[float]]) -> Path:
    """Folder of a comparison with these losses by seed."""
    for norm, values in scores.items():
        for seed, value in enumerate(values):
            run = folder / norm / f"seed={seed}"
            run.mkdir(parents=True)
            test = {mode: {"nll": value} for mode in ("running", "population", "batch")}
            bucket = {"low": 50, "high": 50, "count": 9, "running": value, "population": value, "batch": 2 * value}
            result = {
                "norm": norm, "seed": seed, "status": "finished", "task": "t", "metric": "nll", "metric_mode": "min",
                "steps": 9, "epochs": 1, "seconds": 60.0, "parameters": 9, "statistics": 0, "best_val": value,
                "best_step": 9, "test": test, "buckets": {"length": [bucket]},
            }  # fmt: skip
            (run / "result.json").write_text(json.dumps(result))
    (folder / "data.json").write_text(json.dumps({"baseline": "none", "norms": list(scores)}))
    return folder


def test_the_page_agrees_with_the_published_measurements(script: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs" / "published", tmp_path / "published")
    script["main"](["--docs", str(tmp_path)])
    assert (tmp_path / "published.md").read_text("utf-8") == (ROOT / "docs" / "published.md").read_text("utf-8")


def test_rows_are_those_of_the_experiments() -> None:
    assert {f"published/{key}" for key in ROWS} == {name for name in published() if not name.endswith("-scaled")}


@pytest.mark.parametrize("key", [key for key, row in ROWS.items() if row["claims"]])
def test_norms_of_claims_and_numbers_are_compared(key: str) -> None:
    """Claims by the scaled file, numbers by the full one, in the spelling that their folders have."""
    small = f"published/{key}-scaled" if f"published/{key}-scaled" in published() else f"published/{key}"
    compared = Comparison(["-c", small])
    for claim in ROWS[key]["claims"]:
        for side in (claim["better"], claim["worse"]):
            assert side.partition("|")[0] in compared.norms
        if "at" in claim:
            options = yaml.safe_load(published()[small].read_text("utf-8"))["data"]["init_args"]
            assert claim["at"] in options["test_lengths"]
    assert set(ROWS[key]["numbers"]) <= set(Comparison(["-c", f"published/{key}"]).norms)


@pytest.mark.parametrize(
    ("ln", "verdict"), [(-1.0, "yes"), (1.0, "the reverse"), (0.0, "open")], ids=["yes", "reverse", "open"]
)
def test_a_verdict_is_that_of_differences_by_seed(
    script: dict[str, Any], tmp_path: Path, ln: float, verdict: str
) -> None:
    base = [3.0, 4.0, 5.0, 6.0, 7.0]
    other = [value + ln + noise for value, noise in zip(base, NOISE, strict=True)]
    folder = comparison(tmp_path / "row", {"none": base, "ln": other})
    summary = script["summarize"](script["find_runs"](folder))
    claims = [{"better": "ln", "worse": "none"}, {"better": "wn", "worse": "none"}]
    found = script["judge"](summary, claims)
    assert [one.verdict for one in found] == [verdict, "not measured"]
    assert found[0].found.seedwise.mean == pytest.approx(-ln)
    by_length = script["judge"](summary, [{"better": "ln", "worse": "ln|batch", "at": 50}])[0]
    assert by_length.found.values == pytest.approx(other)
    assert by_length.verdict == "yes"


def test_an_ordering_may_be_of_the_loss_in_training(script: dict[str, Any], tmp_path: Path) -> None:
    """Smaller is better there, whatever the score; the table has a column for it."""
    folder = comparison(tmp_path / "row", {"none": [3.0] * 5, "ln": [4.0] * 5})
    for path in folder.glob("*/seed=*/result.json"):
        result = json.loads(path.read_text())
        loss = (2.0 if result["norm"] == "none" else 1.0) + NOISE[result["seed"]]
        path.write_text(json.dumps(result | {"train_loss": loss, "metric_mode": "max"}))
    summary = script["summarize"](script["find_runs"](folder))
    (found,) = script["judge"](summary, [{"better": "none|training", "worse": "ln|training"}])
    assert found.found.seedwise.mean == pytest.approx(-1.0)
    assert "`none`, training loss" in script["claims_table"]([found])[-1]
    (with_loss,) = [line for line in script["scores_table"](summary, {}) if "`ln`" in line]
    assert float(with_loss.split("|")[4]) == 1


def test_a_begun_run_is_shown_and_not_judged(script: dict[str, Any], tmp_path: Path) -> None:
    facts = {**ROWS["jsb-music"], "claims": [{"better": "ln", "worse": "none"}]}
    folder = comparison(tmp_path / "jsb-music-scaled", {"none": [3.0] * 4, "ln": [2.0, 2.1, 2.2, 2.3]})
    row = script["read_row"]("jsb-music", facts, tmp_path)
    assert (row["ran"], row["verdict"]) == ("not finished", "–")
    assert not row["runs"][0]["claims"]
    shutil.rmtree(folder)
    comparison(folder, {"none": [3.0, 3.1, 3.2, 3.3, 3.4], "ln": [2.0, 2.1, 2.2, 2.31, 2.4]})
    row = script["read_row"]("jsb-music", facts, tmp_path)
    assert (row["ran"], row["verdict"]) == ("scaled, 5 seeds", "1 yes")
    assert "10 runs, 10 minutes" in row["runs"][0]["facts"]


def test_a_tuned_comparison_stands_beside_the_other(script: dict[str, Any], tmp_path: Path) -> None:
    """Judged by itself, with the rates that it chose."""
    facts = {**ROWS["jsb-music"], "variants": {"tuned": "--tune"}, "claims": [{"better": "ln", "worse": "none"}]}
    worse = {"none": [3.0, 3.1, 3.2, 3.3, 3.4], "ln": [4.0, 4.1, 4.2, 4.31, 4.4]}
    comparison(tmp_path / "jsb-music-scaled", worse)
    folder = comparison(tmp_path / "jsb-music-scaled-tuned", {"none": worse["ln"], "ln": worse["none"]})
    chosen = [
        {"norm": norm, "round": 0, "values": {"model.learning_rate": rate}, "edges": {}}
        for norm, rate in (("none", 0.01), ("ln", 0.0312))
    ]
    records = [{**one, "score": 3.0, "epochs": 1, "status": "finished", "chosen": True} for one in chosen]
    tuning = {
        "space": {"model.learning_rate": {"kind": "log", "range": "log:0.001..0.1"}}, "rounds": 1, "halving": 0,
        "rungs": [], "seeds": [1000], "metric": "nll", "metric_mode": "min", "widened": [], "choices": chosen,
        "records": records,
    }  # fmt: skip
    (folder / "tuning.json").write_text(json.dumps(tuning))
    row = script["read_row"]("jsb-music", facts, tmp_path)
    assert (row["ran"], row["verdict"]) == ("scaled, 5 seeds; tuned, 5 seeds", "1 the reverse; tuned: 1 yes")
    assert "tuned (`--tune`)" in row["runs"][1]["facts"]
    plain, tuned = (run["table"] for run in row["runs"])
    assert "learning rate" not in plain[0]
    assert [line.split("|")[-2].strip() for line in tuned if "`" in line] == ["0.031", "0.01"]


def test_measurements_have_the_same_bytes_whenever_they_are_kept(script: dict[str, Any], tmp_path: Path) -> None:
    folder = comparison(tmp_path / "row", {"none": [3.0]})
    (folder / "none/seed=0/curves.bin").write_bytes(b"large")
    script["keep"]({"row": folder}, tmp_path / "one.tar.xz")
    (folder / "none/seed=0/result.json").touch()
    script["keep"]({"row": folder}, tmp_path / "two.tar.xz")
    assert (tmp_path / "one.tar.xz").read_bytes() == (tmp_path / "two.tar.xz").read_bytes()
    with script["tarfile"].open(tmp_path / "one.tar.xz") as archive:
        assert archive.getnames() == ["row/data.json", "row/none/seed=0/result.json"]
