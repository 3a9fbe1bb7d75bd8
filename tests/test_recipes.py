"""The recipes of CONTRIBUTING.md, followed to the letter in a copy of the package."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
SMALL = ["--seeds", "1", "--trainer.max_epochs", "1", "--model.hidden_size", "8"]


def block(kind: str) -> tuple[str, str]:
    """Where a marked code block of the guide belongs, and the block."""
    match = re.search(rf"<!-- {kind}: (\S+) -->\n```(?:python|yaml)\n(.*?)```", GUIDE, re.DOTALL)
    assert match, f"CONTRIBUTING.md has no block marked {kind!r}"
    return match[1], match[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("rnnnorm", "experiments"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "rnnnorm", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def results(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "results.csv").open() as file:
        return {row["norm"]: row for row in csv.DictReader(file)}


def test_a_normalizer_is_one_class_and_one_row(copy: Path) -> None:
    path, source = block("normalizer")
    (copy / path).write_text(source)
    path, row = block("row")
    table = (copy / path).read_text()
    before = '    yield Preset(\n        "wn",'
    assert table.count(before) == 1
    (copy / path).write_text(table.replace(before, row + before))
    assert "each row by its largest entry" in run(copy, "list", "norms")
    data = ["--data.num_train", "128", "--data.num_val", "32", "--data.num_test", "32"]
    run(copy, "compare", "--norms", "peak,peak:gain=0.5,ln", *SMALL, *data, "--out", "out")
    rows = results(copy / "out")
    assert {"peak", "peak:gain=0.5", "ln"} == set(rows)
    assert all(row["status"] == "finished" for row in rows.values())
    assert rows["peak"]["test_running_loss"] != rows["peak:gain=0.5"]["test_running_loss"]
    names = ("norms/test_contract.py", "test_gradients.py", "test_invariance.py", "test_lstm.py", "test_equations.py")
    contract = [str(ROOT / "tests" / name) for name in names]
    environment = {**os.environ, "PYTHONPATH": f"{copy}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "peak", *contract]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert re.search(r"[1-9]\d* passed", done.stdout), done.stdout


def test_a_task_is_one_data_module(copy: Path) -> None:
    path, source = block("task")
    (copy / path).write_text(source)
    run(copy, "compare", "--data", "parity.Parity", "--norms", "none,bn-timestep", *SMALL, "--out", "out")
    rows = results(copy / "out")
    assert {"none", "bn-timestep"} == set(rows)
    assert all(row["status"] == "finished" for row in rows.values())


def test_a_study_is_one_file_and_one_yaml(copy: Path) -> None:
    for kind in ("study", "settings"):
        path, source = block(kind)
        (copy / path).write_text(source)
    assert "Does a larger gain saturate an LSTM?" in run(copy, "list", "studies")
    run(copy, "study", "saturation", "--quick", "--jobs", "1", "--out", "out")
    (verdict,) = json.loads((copy / "out/saturation/verdict.json").read_text())["verdicts"]
    assert {case["condition"] for case in verdict["conditions"]} == {
        f"{norm}, {gain}" for norm in ("ln", "bn-timestep") for gain in (0.3, 1)
    }
    assert "share of saturated states" in run(copy, "report", "out") + (copy / "out/report.html").read_text()
    contract = [str(ROOT / "tests/studies" / name) for name in ("test_all.py", "test_declared.py")]
    environment = {**os.environ, "PYTHONPATH": f"{copy}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "saturation", *contract]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert re.search(r"[1-9]\d* passed", done.stdout), done.stdout
