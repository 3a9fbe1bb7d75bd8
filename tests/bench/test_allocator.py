"""Allocators of a benchmark."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rnnnorm.bench import allocator, load
from rnnnorm.cli import main

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")


@pytest.fixture(autouse=True)
def _default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*allocator.NO_TRIM, allocator.JEMALLOC):
        monkeypatch.delenv(name, raising=False)


def test_another_allocator_is_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--quick", "--shapes", "4,2,3,4", "--seconds", "0.01", "--parts", "streaming", "--presets", "none"]
    assert main(["bench", *options, "--malloc", "no-trim", "--json", "b.json"]) == 0
    run = load(tmp_path / "b.json")
    assert run.machine["malloc"] == "no-trim"
    assert run.command.endswith("--malloc no-trim --json b.json")


def test_an_environment_is_that_of_the_allocator_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes.util, "find_library", lambda name: f"lib{name}.so.2")
    assert allocator.current() == "default"
    for name in ("no-trim", "jemalloc", "no-trim", "default"):
        made = allocator.environment(name)
        for key in (*allocator.NO_TRIM, allocator.JEMALLOC):
            monkeypatch.delenv(key, raising=False)
            if key in made:
                monkeypatch.setenv(key, made[key])
        assert allocator.current() == name


def test_a_missing_jemalloc_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(allocator.ctypes.util, "find_library", lambda name: None)
    assert main(["bench", "--malloc", "jemalloc"]) == 2
    assert "jemalloc is not installed" in capsys.readouterr().err
