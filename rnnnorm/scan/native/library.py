"""Compile the scan for this machine, once, and load it.

There are several: one of plain LSTMs, which is faster, and one of each cell with all places and features. Each is
compiled at its first use.

Environment variables: `CXX` is the compiler, `RNNNORM_CXXFLAGS` are more flags for it, and `RNNNORM_CACHE` is the
folder where the library is kept.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from .cache import UnavailableError, cache_folder, is_whole, keep, private_folder
from .problem import Problem, ProblemPointer

SOURCES = (
    *(
        "cell.h",
        "vector.h",
        "gemm.h",
        "peak.h",
        "barrier.h",
        "problem.h",
        "step.h",
        "weights.h",
        "projection.h",
        "few.h",
    ),
    *(
        "forward.h",
        "backward.h",
        "elements.h",
        "gradients.h",
        "full.h",
        "full_elements.h",
        "full_gradients.h",
        "one.h",
        "scan.cpp",
    ),
)
VARIANTS = {
    "plain": ("-DRNNNORM_CELL=kLSTM",),
    **{cell: (f"-DRNNNORM_CELL=k{cell}", "-DRNNNORM_FULL=1") for cell in ("LSTM", "GRU", "RNN")},
}
"""Libraries by name, and the macros that make them."""
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
OPENMP = ("-fopenmp",)
PATIENCE = {"version": 30.0, "compile": 600.0}
"""Seconds that a compiler may take to say which it is, and to compile."""
HERE = Path(__file__).parent
_lock = threading.Lock()


class CompilerError(UnavailableError):
    """Error of a compiler, or of loading what it made; it may work without OpenMP."""


class UnresolvedError(CompilerError):
    """A library needs functions that nobody has loaded, such as those of another OpenMP runtime than torch's."""


def library(variant: str = "plain") -> ctypes.CDLL | None:
    """A compiled scan of `VARIANTS`, or None where there is none; says so once."""
    with _lock:  # the first call may come from several threads at once
        return _library(variant)


@cache
def _library(variant: str) -> ctypes.CDLL | None:
    try:
        try:
            return _loaded(variant)
        except CompilerError as error:  # a compiler without OpenMP, or with a runtime other than torch's
            loaded = _loaded(variant, ())
            _tell_of_one_thread(error)
            return loaded
    except UnavailableError as error:
        _tell(f"rnnnorm runs without its compiled scan, correctly but slower: {error}")
        return None


_told: set[str] = set()


def _tell_of_one_thread(why: UnavailableError) -> None:
    _tell(f"rnnnorm's compiled scan runs with one thread, without OpenMP: {why}")


def _tell(message: str) -> None:
    """Warn once, not once for each library."""
    if message not in _told:
        _told.add(message)
        warnings.warn(message, stacklevel=4)


def extra_flags() -> list[str]:
    """The flags of `RNNNORM_CXXFLAGS`."""
    return os.environ.get("RNNNORM_CXXFLAGS", "").split()


def sanitizes() -> bool:
    """Whether compiled code checks itself: then every loan of memory should end where its block ends."""
    return any(flag.startswith("-fsanitize") for flag in extra_flags())


def _compiler() -> list[str]:
    command = (os.environ.get("CXX") or "c++").split()
    if shutil.which(command[0]) is None:
        raise UnavailableError(f"no C++ compiler {command[0]!r} was found; install one, or name it by the variable CXX")
    return command


def _loaded(variant: str = "plain", openmp: tuple[str, ...] = OPENMP) -> ctypes.CDLL:
    """The library for this source, compiler and processor; built if there is none that is whole.

    Where no compiler answers, one that another compiler has made of the same source for the same processor will do.
    Without the flag for OpenMP it uses one thread.
    """
    target = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
    flags = [*FLAGS, target, *VARIANTS[variant], *extra_flags()]
    prefix = _prefix(flags, openmp)
    folder = private_folder(cache_folder())
    try:
        compiler = _compiler()
        version = _run([*compiler, "--version"], PATIENCE["version"])
    except UnavailableError as error:
        found = _cached(folder, prefix)
        if found is None and openmp:
            found = _cached(folder, _prefix(flags, ()))
            if found is not None:
                _tell_of_one_thread(error)
        if found is None:
            raise
        return found
    made_by = hashlib.sha256("\0".join([*compiler, version]).encode()).hexdigest()[:16]
    found = _cached(folder, f"{prefix}{made_by}-")
    if found is not None:
        return found
    if openmp:  # otherwise it has been said
        kind = "LSTMs" if variant == "plain" else f"{variant}s and all options"
        text = f"rnnnorm: compiling its scan of {kind} for this machine (once, some seconds) …"
        print(text, file=sys.stderr, flush=True)
    return _build([*compiler, *flags], openmp, folder, f"{prefix}{made_by}-")


def _prefix(flags: list[str], openmp: tuple[str, ...]) -> str:
    """How names of libraries begin that were made of this source for this processor."""
    key = hashlib.sha256("\0".join([*flags, *openmp, _processor()]).encode())
    for name in SOURCES:
        key.update((HERE / name).read_bytes())
    return f"scan-{key.hexdigest()[:16]}-"


def _cached(folder: Path, prefix: str) -> ctypes.CDLL | None:
    for path in sorted(folder.glob(prefix + "*.so")):
        if is_whole(path):
            try:
                return _load(path)
            except UnresolvedError:
                raise
            except UnavailableError:
                continue  # a compiler of that name and version was out of order
    return None


def _build(command: list[str], openmp: tuple[str, ...], folder: Path, prefix: str) -> ctypes.CDLL:
    try:
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as place:
            part, whole = Path(place) / "scan.o", Path(place) / "scan.so"
            # Torch has loaded an OpenMP runtime already. Linking one would load a second, and two pools of threads
            # halve the speed of both: its symbols are left open and found in the one that is there.
            _run([*command, *openmp, "-c", str(HERE / "scan.cpp"), "-o", str(part)], PATIENCE["compile"])
            _run([*command, "-shared", str(part), "-o", str(whole)], PATIENCE["compile"])
            path = keep(whole, folder, prefix)
    except FileNotFoundError as error:
        raise CompilerError(f"{command[0]} has made no library: {error}") from error
    except OSError as error:
        raise UnavailableError(f"cannot write to the cache folder {folder}: {error.strerror}") from error
    try:
        return _load(path)
    except UnresolvedError:  # kept all the same: the next process need not try again
        raise
    except CompilerError:
        path.unlink(missing_ok=True)
        raise


def _run(command: list[str], patience: float) -> str:
    """Output of a command; it and its children are ended with an error after some seconds."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        process = subprocess.Popen(command, text=True, errors="replace", start_new_session=True, **pipes)
    except OSError as error:
        raise UnavailableError(f"{command[0]} does not start: {error.strerror}") from error
    with process:
        try:
            out, err = process.communicate(timeout=patience)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise UnavailableError(f"{command[0]} did not finish within {patience:g} s") from error
            raise
    if process.returncode:
        lines = err.strip().splitlines()
        raise CompilerError(f"{command[0]} failed: {lines[0] if lines else 'no message'}")
    return str(out)


def _processor() -> str:
    """Identifier of the processor's instructions, since machines may share a home folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


def _load(path: Path) -> ctypes.CDLL:
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        kind = UnresolvedError if "symbol" in str(error) else CompilerError
        raise kind(f"the compiled scan does not load: {error}") from error
    try:
        return _declared(loaded)
    except AttributeError as error:
        raise CompilerError(f"the compiled scan is none: {error}") from error


def _declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of its functions."""
    loaded.rnnnorm_problem_size.restype = ctypes.c_int64
    size = loaded.rnnnorm_problem_size()
    if size != ctypes.sizeof(Problem):
        raise CompilerError(f"the compiled scan expects {size} bytes of arguments, not {ctypes.sizeof(Problem)}")
    for size_of in (loaded.rnnnorm_padding, loaded.rnnnorm_width):
        size_of.argtypes, size_of.restype = [ctypes.c_int64, ctypes.c_int], ctypes.c_int64
    multiply_and_add = loaded.rnnnorm_multiply_and_add_f32
    multiply_and_add.argtypes, multiply_and_add.restype = [ctypes.c_int64, ctypes.c_int], ctypes.c_float
    for direction in ("forward", "backward"):
        for dtype in ("f32", "f64"):
            run = getattr(loaded, f"rnnnorm_{direction}_{dtype}")
            run.argtypes, run.restype = [ProblemPointer], None
            space = getattr(loaded, f"rnnnorm_{direction}_workspace_{dtype}")
            space.argtypes, space.restype = [ProblemPointer], ctypes.c_int64
    loaded.rnnnorm_step_values.argtypes, loaded.rnnnorm_step_values.restype = [ctypes.c_int64], ctypes.c_int64
    for dtype in ("f32", "f64"):
        step = getattr(loaded, f"rnnnorm_step_{dtype}")
        step.argtypes, step.restype = [ctypes.c_void_p], None
    return loaded
