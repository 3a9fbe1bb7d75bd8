"""The compiled scan under the sanitizers for addresses and undefined behaviour, on generated cases."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rnnnorm

PROJECT = Path(rnnnorm.__file__).parents[1]
FLAGS = "-O0 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"
CASES = 150


def runtime(folder: Path) -> Path:
    """The library that must be loaded before all others; skips the test where there is none that works."""
    compiler = (os.environ.get("CXX") or "c++").split()
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"no C++ compiler {compiler[0]!r}")
    asked = subprocess.run([*compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=False)
    library = Path(asked.stdout.strip())
    if asked.returncode or not library.is_absolute() or not library.exists():
        pytest.skip(f"{compiler[0]} has no libasan.so, the sanitizer's runtime of GCC")
    source, program = folder / "nothing.cpp", folder / "nothing.so"
    source.write_text("int nothing() { return 0; }\n")
    command = [*compiler, *FLAGS.split(), "-shared", "-fPIC", str(source), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        pytest.skip(f"{compiler[0]} cannot link with its sanitizers: {built.stderr.strip().splitlines()[0]}")
    return library


@pytest.mark.timeout(900)
def test_generated_cases(tmp_path: Path) -> None:
    """Neither reads nor writes out of bounds, and sanitizers that see both where they are put in on purpose."""
    library = runtime(tmp_path)
    compiler = os.environ.get("CXX") or "c++"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "tests")]),
        "RNNNORM_CACHE": str(tmp_path / "cache"),
        "RNNNORM_CXXFLAGS": FLAGS,
        "CXX": f"env -u LD_PRELOAD {compiler}",  # the compiler itself is not what is tested
        "LD_PRELOAD": str(library),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python leaves much to the end of its process
        "OMP_NUM_THREADS": "1",
    }
    child = [sys.executable, "-m", "scan.sanitized", "0", str(CASES)]
    done = subprocess.run(child, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-8000:]
    assert done.stdout.splitlines()[-1] == f"{CASES} cases"
