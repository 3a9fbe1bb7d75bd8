"""A study on a user's own task: the data module of CONTRIBUTING.md, named in a YAML file."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from rnnnorm.cli import main
from rnnnorm.studies.framework.command import study
from rnnnorm.studies.framework.measurements import read, where

pytestmark = pytest.mark.filterwarnings("ignore")

GUIDE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
MINE = """\
seeds: 2
norms: [none, bn-timestep]
options: {cures: ["bn-timestep:min_rows=8"], mixed_norms: [bn-timestep]}
data: {class_path: own_task.Parity, init_args: {batch_size: 32}}
model: {init_args: {hidden_size: 6}}
trainer: {max_epochs: 1}
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    match = re.search(r"<!-- task: parity\.py -->\n```python\n(.*?)```", GUIDE, re.DOTALL)
    assert match, "CONTRIBUTING.md has no task"
    (tmp_path / "own_task.py").write_text(match[1])
    (tmp_path / "mine.yaml").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("RNNNORM_DATA", raising=False)
    yield tmp_path / "mine.yaml"
    sys.modules.pop("own_task", None)


def test_raggedness_of_ones_own_data(mine: Path, tmp_path: Path) -> None:
    console = Console(record=True, width=200, force_terminal=False)
    args = ["raggedness", "-c", str(mine), "--jobs", "1", "--out", str(tmp_path / "out")]
    code = study(args, console)
    printed = console.export_text()
    assert code == 0, printed
    folder = tmp_path / "out" / "raggedness"
    m = read(folder)
    assert {"none", "bn-timestep", "bn-timestep:min_rows=8"} <= set(m["norm"])
    assert set(m["seed"]) == {0, 1}
    buckets = where(m, quantity="score", axis="length", mode="running", norm="none", seed=0)
    assert set(buckets["low"]) <= set(range(1, 13))
    per_arm = buckets.groupby([c for c in ("data", "batches") if c in buckets])["count"].sum()
    assert set(per_arm) == {64.0}  # the module's test split
    content = json.loads((folder / "verdict.json").read_text())
    assert content["measured"] == content["trials"]
    assert content["verdicts"]
    before = [(one["key"], one["verdict"]) for one in content["verdicts"]]
    assert "own_task.Parity" in (tmp_path / "out" / "report.html").read_text()
    for path in folder.iterdir():
        if path.name.startswith("figure") or path.name == "verdict.json":
            path.unlink()
    assert main(["report", str(tmp_path / "out")]) == 0
    content = json.loads((folder / "verdict.json").read_text())
    assert [(one["key"], one["verdict"]) for one in content["verdicts"]] == before
    assert content["measured"] == content["trials"]
    assert (folder / "figure.png").is_file()


def test_an_own_class_that_does_not_exist_is_refused(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine.write_text(MINE.replace("own_task.Parity", "own_task.Partiy"))
    assert main(["study", "raggedness", "-c", str(mine), "--jobs", "1", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "Partiy" in error
    assert "Traceback" not in error
    assert not list((tmp_path / "out").rglob("seed=*"))
