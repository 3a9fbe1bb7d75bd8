"""The source that runs: its commit, or its version."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import rnnnorm
from rnnnorm.common import source as module
from rnnnorm.common.source import commit, source


def test_the_commit_is_that_of_the_source(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    (tmp_path / "rnnnorm").mkdir()
    (tmp_path / "rnnnorm" / "a.py").write_text("1\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert commit(tmp_path) == head
    (tmp_path / "elsewhere").write_text("2\n")
    assert commit(tmp_path) == head
    (tmp_path / "rnnnorm" / "b.py").write_text("2\n")
    assert commit(tmp_path) == f"{head} + changes"


def test_what_was_installed_says_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "commit", lambda: None)
    assert source() == f"version {rnnnorm.__version__}"
