"""A comparison on two processes: one of them speaks for both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from compare.conftest import SMALL

import rnnnorm
from rnnnorm.common.sequence_scores import SequenceScores
from rnnnorm.compare import runner
from rnnnorm.engine import records

ARGUMENTS = ["--norms", "none,bn-timestep", "--trainer.devices", "2"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("processes")
    (folder / "small.yaml").write_text(SMALL)
    command = [sys.executable, "-m", "rnnnorm", "compare", "-c", "small.yaml", "--out", "out", *ARGUMENTS]
    command += ["--trainer.strategy", "ddp"]
    env = {**os.environ, "PYTHONPATH": str(Path(rnnnorm.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return folder / "out", subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=200, check=False
    )


def test_everything_is_printed_once(compared: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = compared
    assert done.returncode == 0, done.stderr
    for text in ("[1/2] none/seed=0: 6 steps", "[2/2] bn-timestep/seed=0: 6 steps", "report: ", "curves: "):
        assert done.stdout.count(text) == 1, done.stdout
    assert done.stdout.count("parameters") == 1


def test_the_results_are_of_both_processes(compared: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = compared
    for name in ("results.csv", "summary.md", "report.html", "compare.yaml", "data.json"):
        assert (out / name).stat().st_size > 0, name
    assert not list(out.rglob("*.part"))
    result = json.loads((out / "bn-timestep" / "seed=0" / "result.json").read_text())
    for buckets in result["buckets"].values():
        assert sum(bucket["count"] for bucket in buckets) == 40
    scores = SequenceScores.read(out / "bn-timestep" / "seed=0" / "test_sequences.npz")
    assert scores.counts.tolist() == [1] * 40
    for mode, measured in result["test"].items():
        assert scores.sums_by(mode).mean() == pytest.approx(measured["accuracy"], rel=1e-6)
    # 6 batches of 10 sequences on each process: the statistics are those of all rows.
    last = torch.load(out / "bn-timestep" / "seed=0" / "checkpoints" / "last.ckpt", weights_only=True)
    rows = last["state_dict"]["recurrent.norms_l0.hidden.stats.num_rows"]
    assert rows[0] == 6 * 20


def test_other_processes_neither_print_nor_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records.rank_zero_only, "rank", 1)
    records.write(tmp_path / "file", "text")
    assert not (tmp_path / "file").exists()
    monkeypatch.setattr(records.rank_zero_only, "rank", 0)
    records.write(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork", "ddp_notebook"])
def test_strategies_that_hand_nothing_back_are_refused(strategy: str, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    with pytest.raises(ValueError, match=f"{strategy}: .* use ddp"):
        runner.compare(["-c", str(tmp_path / "small.yaml"), *ARGUMENTS, "--trainer.strategy", strategy])
