"""Allocators of memory: a good part of a training step by torch alone is spent in fresh pages, which depend on them."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from collections.abc import Sequence

NO_TRIM = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**26)}
"""Settings of glibc with which freed memory stays with the process: the next step finds its pages there."""
JEMALLOC = "LD_PRELOAD"
ALLOCATORS = ("default", "no-trim", "jemalloc")


def current() -> str:
    """Allocator of this process: one of `ALLOCATORS`."""
    if "jemalloc" in os.environ.get(JEMALLOC, ""):
        return "jemalloc"
    return "no-trim" if all(os.environ.get(key) == value for key, value in NO_TRIM.items()) else "default"


def environment(name: str) -> dict[str, str]:
    """Environment of a process with this allocator.

    Raises:
        ValueError: jemalloc is not installed, or the system has no glibc whose settings could be changed.
    """
    own = {key: value for key, value in os.environ.items() if key not in NO_TRIM}
    if current() == "jemalloc":
        del own[JEMALLOC]
    if name == "default":
        return own
    if not sys.platform.startswith("linux"):
        raise ValueError(f"allocator {name!r} needs Linux, this is {sys.platform}; expected default")
    if name == "no-trim":
        return {**own, **NO_TRIM}
    library = ctypes.util.find_library("jemalloc")
    if library is None:
        raise ValueError("jemalloc is not installed (Debian: apt install libjemalloc2); expected default or no-trim")
    return {**own, JEMALLOC: ":".join(filter(None, (library, own.get(JEMALLOC))))}


def again(argv: Sequence[str], name: str) -> int:
    """Exit code of `rnnnorm bench` in a process with another allocator, which must be there from the start."""
    command = [sys.executable, "-m", "rnnnorm", "bench", *argv]
    return subprocess.run(command, env=environment(name), check=False).returncode
