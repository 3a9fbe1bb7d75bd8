"""Progress without a terminal."""

from __future__ import annotations

import io
from pathlib import Path

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


def test_a_line_that_is_being_written_waits_for_its_end(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=160)
    lines = progress.DistantLines(tmp_path / "lines", progress.Display(console))
    lines.show()
    worker = progress.DistantDisplay(tmp_path / "lines", steps=True)
    worker.say("one [b]line[/b] with ⊙")
    with (tmp_path / "lines").open("a") as file:
        file.write("hal")
    lines.show()
    lines.show()
    assert console.file.getvalue() == "one [b]line[/b] with ⊙\n"  # type: ignore[attr-defined]
    worker.say("f of it")
    lines.end()
    assert console.file.getvalue().splitlines()[1:] == ["half of it"]  # type: ignore[attr-defined]
    assert not (tmp_path / "lines").exists()
    progress.DistantDisplay(tmp_path / "no such folder" / "lines", steps=True).say("a full disk is no error")
