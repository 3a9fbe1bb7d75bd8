"""Compiling the scan where it is used: once, for all processes, and never at the price of an exception."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

import rnnnorm
from rnnnorm.scan.native import library as module

PROJECT = Path(rnnnorm.__file__).parents[1]
HAS_COMPILER = module.library() is not None
compiles = pytest.mark.skipif(not HAS_COMPILER, reason="needs a C++ compiler")

TRAIN = """
import torch, warnings, rnnnorm
torch.set_num_threads(1)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    lstm = rnnnorm.LSTM(3, 4, num_layers=2, norm="ln")
    plain = rnnnorm.LSTM(3, 4)
    for _ in range(3):
        lstm(torch.randn(3, 6, 3))[0].sum().backward()
        plain(torch.randn(3, 6, 3))[0].sum().backward()
print(lstm.ran, plain.ran)
for warning in caught:
    if "rnnnorm" in str(warning.message):
        print("warned:", warning.message)
"""


def start(code: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Python in another process, with a cache of its own."""
    variables = {**os.environ, "PYTHONPATH": str(PROJECT), "RNNNORM_CACHE": str(folder), **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], env=variables, text=True, **pipes)


def finish(process: subprocess.Popen[str], seconds: float = 90) -> tuple[str, str]:
    """What it printed; fails if it did not end well."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return out, err


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], object]:
    """`library` as in a process that has not loaded anything yet, with an empty cache folder."""
    monkeypatch.setenv("RNNNORM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_library", cache(module._library.__wrapped__))
    return module.library


@pytest.fixture
def compiler(tmp_path: Path) -> Path:
    """A compiler that counts its compilations and does not optimize, which is quicker."""
    real = shutil.which(os.environ.get("CXX", "c++").split()[0])
    path = tmp_path / "counting-compiler"
    path.write_text(
        f'#!/bin/sh\ncase " $* " in *" -c "*) echo compiled >> "{tmp_path / "count"}";; esac\nexec "{real}" "$@" -O0\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def count(tmp_path: Path) -> int:
    file = tmp_path / "count"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_without_a_compiler(tmp_path: Path) -> None:
    """A whole process: everything works by other backends, and one warning says what to do."""
    out, _ = finish(start(TRAIN, tmp_path / "cache", CXX="/nonexistent"))
    first, *rest = out.splitlines()
    assert first == "reference torch"
    assert len(rest) == 1
    assert "correctly but slower" in rest[0]
    assert "no C++ compiler '/nonexistent' was found; install one, or name it by the variable CXX" in rest[0]


def _garbage(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    """A cached file that is no library, as a full disk may have left it."""
    patch.setattr(module, "_compiled", lambda *_: tmp_path / "scan.so")
    (tmp_path / "scan.so").write_bytes(b"\x7fELF and nothing else")


def _file_for_folder(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    patch.setenv("RNNNORM_CACHE", str(tmp_path / "file" / "cache"))


def _homeless(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    """A container whose user has no home, which `Path.home` answers by a RuntimeError."""

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    patch.delenv("RNNNORM_CACHE")
    patch.delenv("XDG_CACHE_HOME", raising=False)
    patch.setattr(Path, "home", home)


def _broken_compiler(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "broken"
    path.write_text(
        '#!/bin/sh\n[ "$2" = --version ] || [ "$1" = --version ] && exit 0\necho "no such luck" >&2\nexit 1\n'
    )
    path.chmod(0o755)
    patch.setenv("CXX", str(path))


TROUBLE: dict[str, tuple[Callable[[Path, pytest.MonkeyPatch], None], str]] = {
    "no-compiler": (
        lambda _, patch: patch.setenv("CXX", "/nonexistent"),
        r"install one, or name it by the variable CXX",
    ),
    "no-such-command": (lambda _, patch: patch.setenv("CXX", "no-such-compiler -v"), r"no C\+\+ compiler"),
    "false": (lambda _, patch: patch.setenv("CXX", "false"), r"false failed: no message"),
    "broken-compiler": (_broken_compiler, r"broken failed: no such luck"),
    "unwritable-cache": (_file_for_folder, r"cannot write to the cache folder .*: Not a directory"),
    "no-home": (_homeless, r"RNNNORM_CACHE|home"),
    "garbage": (_garbage, r"does not load"),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble(trouble: str, fresh: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One warning that names the reason, and None ever after."""
    arrange, message = TROUBLE[trouble]
    if trouble in ("unwritable-cache", "no-home") and not HAS_COMPILER:
        pytest.skip("needs a C++ compiler")
    arrange(tmp_path, monkeypatch)
    with pytest.warns(UserWarning, match=message) as caught:
        assert fresh() is None
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fresh() is None


def test_trouble_in_several_threads(fresh: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first calls may come at once: still one warning."""
    monkeypatch.setenv("CXX", "/nonexistent")
    found: list[object] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=lambda: found.append(fresh())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [None] * 8
    assert len(caught) == 1


@compiles
def test_processes_share_one_compilation(
    compiler: Path, tmp_path: Path, fresh: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that start at once both succeed; later ones compile nothing, and no scraps are left."""
    folder = tmp_path / "cache"
    both = [start(TRAIN, folder, CXX=str(compiler)) for _ in range(2)]
    for out, err in map(finish, both):
        assert out.splitlines() == ["native native"]
        assert err.count("compiling its scan") <= 1
    compiled = count(tmp_path)
    assert 1 <= compiled <= 2
    monkeypatch.setenv("CXX", str(compiler))
    assert fresh() is not None
    assert count(tmp_path) == compiled
    assert [path.suffix for path in folder.iterdir()] == [".so"]


@compiles
def test_another_compiler_or_source_is_another_file(
    compiler: Path, fresh: Callable[[], object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built: list[Path] = []
    monkeypatch.setattr(module, "_build", lambda command, openmp, result: built.append(result))
    module._compiled()
    monkeypatch.setenv("CXX", str(compiler))
    module._compiled()
    for name in module.SOURCES:
        (tmp_path / name).write_bytes((module.HERE / name).read_bytes())
    (tmp_path / "step.h").write_text((tmp_path / "step.h").read_text() + "\n// changed\n")
    monkeypatch.setattr(module, "HERE", tmp_path)
    module._compiled()
    monkeypatch.setattr(module, "_processor", lambda: "another one")
    module._compiled()
    assert len(set(built)) == 4


def test_every_source_counts() -> None:
    """A file that is included but not listed would not make the cache notice its changes."""
    assert set(module.SOURCES) == {path.name for path in module.HERE.iterdir() if path.suffix in (".h", ".cpp")}


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNNORM_CACHE", "/chosen")
    assert module.cache_folder() == Path("/chosen")
    monkeypatch.delenv("RNNNORM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert module.cache_folder() == Path("/caches/rnnnorm")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert module.cache_folder() == Path.home() / ".cache" / "rnnnorm"


@compiles
@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf")
def test_no_second_openmp_runtime() -> None:
    """Torch has loaded one: another would have threads of its own, and both would fight for the cores."""
    path = module._compiled()
    needed = subprocess.run(["readelf", "-d", str(path)], capture_output=True, text=True, check=True).stdout
    assert "NEEDED" in needed
    assert not any(f"lib{name}" in needed for name in ("gomp", "omp", "iomp5"))
    symbols = subprocess.run(["readelf", "-Ws", str(path)], capture_output=True, text=True, check=True).stdout
    assert "GOMP_parallel" in symbols or "__kmpc_fork_call" in symbols  # it is parallel all the same


@compiles
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("hidden", [1, 7, 8, 9, 64])
def test_padding(hidden: int, dtype: torch.dtype) -> None:
    """Whole vectors, and fewer than one too many."""
    loaded = module.library()
    assert loaded is not None
    padded = loaded.rnnnorm_padding(hidden, dtype == torch.float64)
    vector = loaded.rnnnorm_padding(1, dtype == torch.float64)
    assert vector * dtype.itemsize in (16, 32, 64)
    assert padded % vector == 0
    assert hidden <= padded < hidden + vector


@compiles
def test_a_compiler_without_openmp_makes_a_scan_for_one_thread(compiler: Path, tmp_path: Path) -> None:
    strict = tmp_path / "no-openmp"
    strict.write_text(
        f'#!/bin/sh\ncase " $* " in *" -fopenmp "*) echo what is that >&2; exit 1;; esac\nexec "{compiler}" "$@"\n'
    )
    strict.chmod(strict.stat().st_mode | stat.S_IXUSR)
    out, err = finish(start(TRAIN, tmp_path / "cache", CXX=str(strict)))
    assert out.split("\n")[0] == "native native"
    assert "warned" not in out
    assert err.count("compiling its scan") == 1
    assert count(tmp_path) == 1
