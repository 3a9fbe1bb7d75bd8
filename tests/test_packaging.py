"""Distributions: what is in the wheel and in the source archive, and that the wheel works in an empty folder."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

import rnnnorm

ROOT = Path(__file__).parents[1]
HEAVY = ("torch._dynamo", "torchtext", "lightning", "matplotlib", "tensorboard", "scipy", "pandas")


def run(*command: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive, built by what is installed here."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", str(out), folder=ROOT)
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


def contents(folder: Path) -> set[str]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in files}


def test_the_wheel_contains_the_package_and_the_experiments(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {f"rnnnorm/{name}" for name in contents(ROOT / "rnnnorm") if not name.startswith("experiments/")}
    assert names == package | {f"rnnnorm/experiments/{name}" for name in contents(ROOT / "experiments")}


def test_the_metadata(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    info = f"rnnnorm-{rnnnorm.__version__}.dist-info"
    metadata: Message = email.message_from_bytes(archive.read(f"{info}/METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("rnnnorm", rnnnorm.__version__)
    assert (metadata["License-Expression"], metadata["Requires-Python"]) == ("Apache-2.0", ">=3.11")
    assert f"{info}/licenses/LICENSE" in archive.namelist()
    assert set(metadata.get_all("Provides-Extra", [])) == {"dev", "docs", "ray", "slurm"}
    assert archive.read(f"{info}/entry_points.txt").decode().split() == [
        "[console_scripts]", "rnnnorm", "=", "rnnnorm.cli:main",
    ]  # fmt: skip


def test_the_source_archive_has_what_is_needed_to_build_and_to_test(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    root = f"rnnnorm-{rnnnorm.__version__}"
    with tarfile.open(path) as archive:
        names = set(archive.getnames())
    needed = ["pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "experiments/default.yaml", "tests/conftest.py"]
    assert {f"{root}/{name}" for name in [*needed, "scripts/check.sh", "docs/presets.md"]} <= names
    assert {f"{root}/rnnnorm/{name}" for name in contents(ROOT / "rnnnorm")} <= names


def test_the_wheel_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Beside the packages that are here, so that no torch is downloaded."""
    target = tmp_path / "installed"
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    run(sys.executable, *pip, folder=tmp_path)
    code = (
        "import rnnnorm, torch; print(rnnnorm.__file__); "
        "rnnnorm.LSTM(3, 4, norm='ln', backend='reference')(torch.randn(2, 3, 3))"
    )
    assert Path(run(sys.executable, "-c", code, folder=tmp_path, PYTHONPATH=str(target)).strip()).is_relative_to(target)
    command = str(target / "bin" / "rnnnorm")
    listed = run(sys.executable, command, "list", "experiments", folder=tmp_path, PYTHONPATH=str(target))
    assert {path.stem for path in (ROOT / "experiments").glob("*.yaml")} <= set(listed.split())


def test_importing_rnnnorm_loads_none_of_the_heavy_packages() -> None:
    """The compiler of torch alone takes longer to import than torch."""
    code = f"import sys, rnnnorm; print([name for name in {HEAVY} if name in sys.modules])"
    assert run(sys.executable, "-c", code, folder=ROOT, PYTHONPATH=str(ROOT)).strip() == "[]"
