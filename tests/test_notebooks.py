"""Notebooks of the documentation: committed as they were run, without errors, and their code still runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))


def code(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_was_run_from_top_to_bottom(path: Path) -> None:
    cells = code(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_code_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one epoch in the place of several."""
    monkeypatch.chdir(tmp_path)
    source = "\n".join("".join(cell["source"]) for cell in code(path))
    assert source.count("max_epochs=6") == 1
    names: dict[str, Any] = {"__name__": "notebook"}
    exec(compile(source.replace("max_epochs=6", "max_epochs=1"), path.name, "exec"), names)
    assert set(names["models"]) == {"none", "ln", "bn-timestep"}
