"""Progress without a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rnnnorm.engine import progress


def test_a_long_training_prints_lines_into_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=160)
    with progress.Display(console, [1.0]) as display:
        display.begin("ln/seed=0")
        for step in range(1, 101):
            now[0] += 1.0
            display.step(step, 100, "train/loss 0.5")
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == [f"ln/seed=0: step {step} of 100, train/loss 0.5" for step in (30, 60, 90)]
