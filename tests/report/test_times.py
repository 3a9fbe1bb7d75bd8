"""Training times, which depend on what else the machine does; how runs ended; which baseline there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report.fake_runs import write_comparison, write_run

from rnnnorm.cli import main
from rnnnorm.report import build
from rnnnorm.report.endings import rising
from rnnnorm.report.runs import find_runs
from rnnnorm.report.summary import Summary, summarize


def change(out: Path, run: str, **facts: Any) -> None:
    path = out / run / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def summary(out: Path) -> Summary:
    return summarize(find_runs(out))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_comparison(tmp_path, ["none", "ln"], seeds=3)
    for seed in range(3):
        change(tmp_path, f"none/seed={seed}", seconds=10.0 + seed)
        change(tmp_path, f"ln/seed={seed}", seconds=20.0 + 3 * seed)
    return tmp_path


class TestTimes:
    def test_ratios_are_paired_by_seed(self, out: Path) -> None:
        ratio = summary(out).times.ratios["ln"]
        assert (ratio.low, ratio.high) == pytest.approx((20 / 10, 26 / 12))
        assert str(ratio) == "2.09 × (2.00–2.17)"
        text = build(out).read_text()
        assert "A training step took about 2.09 (2.00 to 2.17) times as long with <code>ln</code>" in text
        assert "(wall time; mean and range over seeds)" in text

    def test_steps_are_compared_and_not_trainings(self, out: Path) -> None:
        for seed in range(3):
            change(out, f"ln/seed={seed}", steps=300)
        assert summary(out).times.ratios["ln"].low == pytest.approx(4.0)

    def test_cpu_time_counts_where_all_have_it(self, out: Path) -> None:
        for norm in ("none", "ln"):
            for seed in range(3):
                change(out, f"{norm}/seed={seed}", timing={"cpu_seconds": 5.0, "device": "cpu", "jobs": 1})
        times = summary(out).times
        assert times.cpu
        assert times.ratios["ln"].mean == 1
        assert times.seconds["ln"] == 23.0
        change(out, "ln/seed=0", timing={"cpu_seconds": 5.0, "device": "cuda", "jobs": 1})
        assert not summary(out).times.cpu

    def test_a_shared_machine_gives_none(self, out: Path) -> None:
        change(out, "ln/seed=0", timing={"cpu_seconds": 5.0, "device": "cpu", "jobs": 4})
        assert summary(out).times.ratios == {}
        text = build(out).read_text()
        assert "Training times are not compared: 4 runs shared the machine." in text
        assert "times as long" not in text
        assert "step vs none" not in (out / "summary.md").read_text()

    def test_a_large_spread_gives_none(self, out: Path) -> None:
        change(out, "ln/seed=2", seconds=28.0)
        assert summary(out).times.doubt == "a step of `ln` took 1.40 times as long with one seed as with another"

    def test_one_seed_has_no_sentence(self, tmp_path: Path) -> None:
        write_comparison(tmp_path, ["none", "ln"], seeds=1)
        text = build(tmp_path).read_text()
        assert str(summary(tmp_path).times.ratios["ln"]).endswith("×")
        assert "A training step took" not in text


class TestEndings:
    def test_unequal_steps_are_said(self, out: Path) -> None:
        write_comparison(out, ["wn"], seeds=3)
        for seed in range(3):
            change(out, f"ln/seed={seed}", steps=310, ended_by="EarlyStopping")
        build(out)
        text = (out / "summary.md").read_text()
        assert "ln took 310 optimizer steps, the others 600." in text
        assert "3 of 9 runs were stopped early: ln/seed=0 at step 310 by EarlyStopping; ln/seed=1 at" in text

    def test_equal_steps_are_not(self, out: Path) -> None:
        build(out)
        text = (out / "summary.md").read_text()
        assert "optimizer steps" not in text
        assert "stopped early" not in text

    def test_norms_that_were_best_at_the_very_end_are_named(self, out: Path) -> None:
        said = "best on validation at the very end with every seed"
        build(out)
        assert f"`none`, `ln` were {said}" in rising(summary(out)) or f"`ln`, `none` were {said}" in rising(
            summary(out)
        )
        change(out, "ln/seed=1", best_step=550)
        assert rising(summary(out)) == f"`none` was {said}: longer training may change the order."
        change(out, "none/seed=0", best_step=550)
        assert rising(summary(out)) == ""

    def test_steps_that_differ_between_seeds(self, out: Path) -> None:
        change(out, "ln/seed=1", steps=200)
        build(out)
        text = (out / "summary.md").read_text()
        assert "The ranked norms took different numbers of optimizer steps: 200 to 600 (ln) and 600 (none)." in text

    def test_a_diverged_run_is_no_shorter_training(self, out: Path) -> None:
        write_run(out, "ln", 1, status="diverged")
        build(out)
        assert "optimizer steps" not in (out / "summary.md").read_text()

    def test_diverged_runs_without_a_score_are_named(self, out: Path) -> None:
        write_run(out, "ln", 1, status="diverged", checkpoint=False)
        build(out)
        text = (out / "summary.md").read_text()
        assert "Diverged before it had a score: ln on seed 1. The differences leave these seeds out" in text


class TestBaseline:
    def test_it_is_read_from_the_folder(self, out: Path) -> None:
        data = json.loads((out / "data.json").read_text())
        (out / "data.json").write_text(json.dumps(data | {"baseline": "ln"}))
        text = build(out).read_text()
        assert "Differences from <code>ln</code>" in text
        assert (out / "differences.csv").read_text().splitlines()[1].startswith("none,ln,3,")

    def test_the_command_can_name_another(self, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["report", str(out), "--baseline", "ln"]) == 0
        assert "differences from ln" in capsys.readouterr().out
        assert main(["report", str(out), "--baseline", "wn"]) == 2
        assert f"--baseline wn: {out} has no runs of it; there are: ln, none" in capsys.readouterr().err

    def test_without_it_the_first_of_the_preset_table_takes_its_place(self, tmp_path: Path) -> None:
        write_comparison(tmp_path, ["wn", "ln", "bn-shared"], seeds=2)
        assert summary(tmp_path).differences.baseline == "bn-shared"
        build(tmp_path)
        text = (tmp_path / "summary.md").read_text()
        assert "none is not among the norms: compared is with bn-shared, the first of the preset table." in text

    def test_a_baseline_without_a_score_has_no_place_either(self, tmp_path: Path) -> None:
        write_comparison(tmp_path, ["ln", "wn"], seeds=2)
        write_run(tmp_path, "none", 0, status="diverged", checkpoint=False)
        build(tmp_path)
        assert "none has no test score: compared is with ln" in (tmp_path / "summary.md").read_text()
