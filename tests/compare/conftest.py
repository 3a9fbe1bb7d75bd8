"""A comparison small enough for tests: a fraction of a second per run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from at_step import at_step  # noqa: F401
from rich.console import Console

from rnnnorm.compare.runner import compare

SMALL = """\
norms: none
seeds: 1
data:
  class_path: rnnnorm.data.TemporalOrder
  init_args: {num_train: 60, num_val: 20, num_test: 40, min_length: 10, max_length: 30, batch_size: 10}
model:
  init_args: {hidden_size: 4, embedding_size: 4, dropout: 0.2}
trainer: {max_epochs: 2, log_every_n_steps: 2, accelerator: cpu}
"""


class Small:
    """`rnnnorm compare` on a small problem, in a folder of its own: 6 steps per epoch, 2 epochs."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out"
        self.printed = ""
        self.config = folder / "small.yaml"
        self.config.write_text(SMALL)

    def __call__(self, *args: str, out: Path | None = None) -> int:
        console = Console(record=True, width=160, force_terminal=False)
        try:
            return compare(["-c", str(self.config), "--out", str(out or self.out), *args], console)
        finally:
            self.printed = console.export_text()

    def result(self, norm: str = "none", seed: int = 0, out: Path | None = None) -> dict[str, Any]:
        content = json.loads(((out or self.out) / norm / f"seed={seed}" / "result.json").read_text())
        assert isinstance(content, dict)
        return content


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(tmp_path)


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than all the rest."""
    monkeypatch.setattr("rnnnorm.report.build", lambda out: out / "report.html")
    monkeypatch.setattr("rnnnorm.board.overview.refresh", lambda out: None)
