"""Notebooks of the documentation: committed as they were run, without errors, and their code still runs."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))
LARGEST = 60_000


def code(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_was_run_from_top_to_bottom(path: Path) -> None:
    cells = code(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [(cell, output) for cell in cells for output in cell["outputs"]]
    assert outputs
    for cell, output in outputs:
        assert output["output_type"] in ("stream", "display_data")
        if output["output_type"] == "display_data":
            assert len(base64.b64decode(output["data"]["image/png"])) < LARGEST
            assert cell["source"][0].startswith("# "), "the comment that describes the figure"


def of_module(names: Mapping[str, Any]) -> None:
    assert set(names["models"]) == {"none", "ln", "bn-timestep"}
    assert torch.isfinite(names["models"]["bn-timestep"].lstm.norms_l0.hidden.stats.population_mean).all()


def of_comparison(names: Mapping[str, Any]) -> None:
    assert set(names["summary"]["norm"]) == {"none", "ln", "bn-timestep"}
    assert set(names["differences"].index) == {"ln", "bn-timestep"}


def of_gradients(names: Mapping[str, Any]) -> None:
    assert names["measured"] == pytest.approx(names["formula"], rel=0.01)
    first = {name: float(probe.table[0].max()) for name, (_, probe) in names["results"].items()}
    assert first.pop("bn-timestep") > 1e20
    assert max(first.values()) < 1


def of_slots(names: Mapping[str, Any]) -> None:
    by = [value for value, _, _ in names["slots"]]
    assert min(by[:4]) > 10 * by[len(by) // 2]
    both = names["exchanged"](names["running"], names["population"], names["four"])
    both = names["exchanged"](both, names["population"], names["others"])
    for mended, right in zip(both, names["population"], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mended, right, strict=True))


def of_deployment(names: Mapping[str, Any]) -> None:
    torch.testing.assert_close(names["single"], names["expected"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.from_numpy(names["logits"]), names["expected"][:1], rtol=1e-4, atol=1e-4)


CHECKS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "own-lightning-module": of_module,
    "which-normalizer": of_comparison,
    "watch-a-gradient-explode": of_gradients,
    "why-running-averages-break": of_slots,
    "training-to-deployment": of_deployment,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_code_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one epoch in the place of several."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    source = "\n".join("".join(cell["source"]) for cell in code(path))
    source, changed = re.subn(r"^EPOCHS = \d+$", "EPOCHS = 1", source, flags=re.MULTILINE)
    assert changed == 1
    names: dict[str, Any] = {"__name__": "notebook"}
    exec(compile(source, path.name, "exec"), names)
    CHECKS[path.stem](names)


def test_there_is_a_check_for_each() -> None:
    assert set(CHECKS) == {path.stem for path in NOTEBOOKS}
