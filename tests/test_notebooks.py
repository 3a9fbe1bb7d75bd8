"""Notebooks of the documentation: committed as they were run, without errors, and their code still runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))
SMALL = {"EPOCHS": 1, "STEPS": 20, "SEEDS": 2}
"""In the place of the numbers in a notebook's first cell."""


def code(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def smaller(source: str) -> str:
    """The first cell with less work to do."""
    lines = source.splitlines()
    for k, line in enumerate(lines):
        names = re.match(r"([A-Z, ]+) = ([0-9, ]+)$", line)
        if names:
            sizes = [
                SMALL.get(name, int(n)) for name, n in zip(names[1].split(", "), names[2].split(", "), strict=True)
            ]
            lines[k] = f"{names[1]} = {', '.join(map(str, sizes))}"
    return "\n".join(lines)


def test_there_are_five() -> None:
    assert len(NOTEBOOKS) == 5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_was_run_from_top_to_bottom(path: Path) -> None:
    cells = code(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data"}
    assert path.stat().st_size < 100_000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_code_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, *others = ("".join(cell["source"]) for cell in code(path))
    small = smaller(first)
    assert small != first
    exec(compile("\n".join([small, *others]), path.name, "exec"), {"__name__": "notebook"})
