"""A tiny study, run as `rnnnorm study` runs any other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from at_step import at_step  # noqa: F401
from rich.console import Console
from studies.framework.tiny import YAML, Bare, Tiny

from rnnnorm.studies.framework.command import study
from rnnnorm.studies.framework.conclude import read_verdict
from rnnnorm.studies.framework.measurements import read
from rnnnorm.studies.framework.study import STUDIES


class Runner:
    """`rnnnorm study tiny`, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / "studies"
        self.files.mkdir()
        self.out = folder / "out"
        self.printed = ""
        self.write(YAML)
        self.write("# Is nothing enough?\nseeds: 2\n", "bare")

    def write(self, text: str, name: str = "tiny") -> None:
        (self.files / f"{name}.yaml").write_text(text)

    def __call__(self, *args: str, name: str = "tiny", jobs: int = 1, out: Path | None = None) -> int:
        console = Console(record=True, width=160, force_terminal=False, quiet=False)
        try:
            return study([name, "--out", str(out or self.out), "--jobs", str(jobs), *args], console)
        finally:
            self.printed = console.export_text()

    @property
    def folder(self) -> Path:
        return self.out / "tiny"

    def table(self, out: Path | None = None) -> pd.DataFrame:
        """All that was measured but the time it took."""
        table = read((out or self.out) / "tiny")
        table = table[table["quantity"] != "seconds"]
        return table.sort_values(list(table.columns)).reset_index(drop=True)

    def verdicts(self, name: str = "tiny") -> dict[str, Any]:
        content = read_verdict(self.out / name)
        assert content is not None
        return {verdict["key"]: verdict["verdict"] for verdict in content["verdicts"]}


def install(patch: pytest.MonkeyPatch, folder: Path) -> Runner:
    """A runner, its two studies entered beside those of the package until the patch is undone."""
    runner = Runner(folder)
    for cls in (Tiny, Bare):
        patch.setitem(STUDIES, cls.name, cls)
    for module in ("settings", "page"):
        patch.setattr(
            f"rnnnorm.studies.framework.{module}.study_file", lambda name: runner.files / f"{name}.yaml", raising=False
        )
    patch.delenv("RNNNORM_DATA", raising=False)
    return runner


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    return install(monkeypatch, tmp_path)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        runner = install(patch, folder)
        code = runner()
    return runner.out, code, runner.printed


@pytest.fixture
def finished(tiny: Runner, finished_once: tuple[Path, int, str]) -> Runner:
    """The tiny study, run to its end: a copy, to do with as one likes."""
    shutil.copytree(finished_once[0], tiny.out)
    tiny.printed = finished_once[2]
    return tiny


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures and the page take longer than all the rest."""
    monkeypatch.setattr("rnnnorm.studies.framework.conclude.save_figure", lambda *_: [])
    monkeypatch.setattr("rnnnorm.studies.framework.page.build", lambda out: out / "report.html")
