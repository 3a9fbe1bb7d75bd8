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
    names = ("norms/test_contract.py", "test_lstm.py", "test_equations.py")
    contract = [str(ROOT / "tests" / name) for name in names]
    environment = {**os.environ, "PYTHONPATH": f"{copy}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "peak", *contract]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert re.search(r"[1-9]\d* passed", done.stdout), done.stdout


CELL = """
import copy, pickle, torch, rnnnorm
from rnnnorm.nn.ugrnn import UGRNN
net, x = UGRNN(3, 4), torch.randn(5, 2, 3)
W, U, b, h = net.weight_ih_l0, net.weight_hh_l0, net.bias_ih_l0 + net.bias_hh_l0, torch.zeros(2, 4)
for row in x:
    g, c = (row @ W.t() + h @ U.t() + b).chunk(2, 1)
    h = g.sigmoid() * h + (1 - g.sigmoid()) * c.tanh()
torch.testing.assert_close(net(x)[1][0], h)
assert "3, 4, num_layers=2, zoneout=0.1, norm='ln'" in repr(UGRNN(3, 4, 2, norm="ln", zoneout=0.1))
for norm in ("none", "ln", "bn-timestep", "gn"):
    torch.manual_seed(0)
    net = UGRNN(3, 4, 2, bidirectional=True, norm=norm, hidden_dropout=0.1, recurrent_dropout=0.1, init="chrono").eval()
    lengths = torch.tensor([2, 5])
    output, h_n = net(x, lengths=lengths)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), torch.compile(net, backend="aot_eager")):
        again, state = other(x, lengths=lengths)
        torch.testing.assert_close((again, state), (output, h_n))
    traced = torch.jit.trace(net, (x,), check_trace=False)
    torch.testing.assert_close(traced(x)[0], net(x)[0])
for wrong, words in (({"proj_size": 2}, "UGRNN has no projection"), ({"norm": "ln-carried"}, "UGRNN")):
    try:
        UGRNN(3, 4, **wrong)
    except ValueError as error:
        assert words in str(error), error
    else:
        raise AssertionError(wrong)
"""


@pytest.mark.release
def test_a_cell_is_its_equations_and_its_signature(copy: Path) -> None:
    for kind in ("equations", "network"):
        path, source = block(kind)
        (copy / path).write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run([sys.executable, "-c", CELL], cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    data = ["--data.num_train", "128", "--data.num_val", "32", "--data.num_test", "32"]
    run(copy, "compare", "--norms", "none,ln,bn-timestep", "--model.cell", "ugrnn", *SMALL, *data, "--out", "out")
    rows = results(copy / "out")
    assert {"none", "ln", "bn-timestep"} == set(rows)
    assert all(row["status"] == "finished" for row in rows.values())


@pytest.mark.release
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
