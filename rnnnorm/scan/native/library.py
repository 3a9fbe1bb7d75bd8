"""Compile the scan for this machine, once, and load it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from functools import cache
from pathlib import Path

from .problem import Problem, ProblemPointer

SOURCES = (
    "vector.h",
    "gemm.h",
    "problem.h",
    "step.h",
    "weights.h",
    "gradients.h",
    "forward.h",
    "backward.h",
    "scan.cpp",
)
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
OPENMP = ("-fopenmp",)
HERE = Path(__file__).parent
_lock = threading.Lock()


class UnavailableError(RuntimeError):
    """The scan cannot be compiled or loaded here."""


def library() -> ctypes.CDLL | None:
    """The compiled scan, or None where there is none; says so once."""
    with _lock:  # the first call may come from several threads at once
        return _library()


@cache
def _library() -> ctypes.CDLL | None:
    try:
        try:
            return _load(_compiled())
        except UnavailableError:  # a compiler without OpenMP, or with a runtime other than torch's
            return _load(_compiled(()))
    except UnavailableError as error:
        warnings.warn(f"rnnnorm runs without its compiled scan, correctly but slower: {error}", stacklevel=2)
        return None


def cache_folder() -> Path:
    """Where compiled scans are kept: `RNNNORM_CACHE`, or a folder of the user's cache."""
    chosen = os.environ.get("RNNNORM_CACHE")
    if chosen:
        return Path(chosen)
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise UnavailableError(f"there is no place to keep it ({error}); name one by RNNNORM_CACHE") from error
    return Path(base) / "rnnnorm"


def _compiler() -> list[str]:
    command = (os.environ.get("CXX") or "c++").split()
    if shutil.which(command[0]) is None:
        raise UnavailableError(f"no C++ compiler {command[0]!r} was found; install one, or name it by the variable CXX")
    return command


def _compiled(openmp: tuple[str, ...] = OPENMP) -> Path:
    """The shared library for this source, compiler and processor; built if it is not there yet.

    Without the flag for OpenMP it uses one thread.
    """
    compiler = _compiler()
    target = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
    command = [*compiler, *FLAGS, target]
    version = _run([*compiler, "--version"])
    key = hashlib.sha256("\0".join([*command, *openmp, version, _processor()]).encode())
    for name in SOURCES:
        key.update((HERE / name).read_bytes())
    result = cache_folder() / f"scan-{key.hexdigest()[:16]}.so"
    if not result.exists():
        if openmp:  # otherwise it has been said
            print("rnnnorm: compiling its scan for this machine (once, some seconds) …", file=sys.stderr, flush=True)
        _build(command, openmp, result)
    return result


def _build(command: list[str], openmp: tuple[str, ...], result: Path) -> None:
    try:
        result.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=result.parent)
    except OSError as error:
        raise UnavailableError(f"cannot write to the cache folder {result.parent}: {error.strerror}") from error
    with folder as place:
        part, whole = Path(place) / "scan.o", Path(place) / "scan.so"
        # Torch has loaded an OpenMP runtime already. Linking one would load a second, and two pools of threads halve
        # the speed of both: its symbols are left open and found in the one that is there.
        _run([*command, *openmp, "-c", str(HERE / "scan.cpp"), "-o", str(part)])
        _run([*command, "-shared", str(part), "-o", str(whole)])
        whole.replace(result)  # atomic: other processes see all of it or nothing


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise UnavailableError(f"{' '.join(command[:1])} failed: {lines[0] if lines else 'no message'}")
    return done.stdout


def _processor() -> str:
    """What tells processors with different instructions apart, since a home folder may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


def _load(path: Path) -> ctypes.CDLL:
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise UnavailableError(f"the compiled scan does not load: {error}") from error
    loaded.rnnnorm_problem_size.restype = ctypes.c_long
    size = loaded.rnnnorm_problem_size()
    if size != ctypes.sizeof(Problem):
        raise UnavailableError(f"the compiled scan expects {size} bytes of arguments, not {ctypes.sizeof(Problem)}")
    loaded.rnnnorm_padding.argtypes = [ctypes.c_long, ctypes.c_int]
    loaded.rnnnorm_padding.restype = ctypes.c_long
    for direction in ("forward", "backward"):
        for dtype in ("f32", "f64"):
            run = getattr(loaded, f"rnnnorm_{direction}_{dtype}")
            run.argtypes, run.restype = [ProblemPointer], None
            space = getattr(loaded, f"rnnnorm_{direction}_workspace_{dtype}")
            space.argtypes, space.restype = [ProblemPointer], ctypes.c_long
    return loaded
