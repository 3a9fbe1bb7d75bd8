"""Whether the compiled scan computes on other processors what it computes here: all builds, run and compared.

    apt-get install g++-aarch64-linux-gnu qemu-user-static
    python scripts/processors.py

Builds every variant for this processor and for others: aarch64, which QEMU emulates, and on x86-64 those with AVX2 or
with SSE2 alone. Runs the same small scans with all of them, forward and backward, with normalizers by row, by column
and mixed, with projections, in 32 and 64 bits, and compares all numbers. It says nothing of speed.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rnnnorm.scan.native.library import FLAGS, HERE, VARIANTS

SOURCE = Path(__file__).with_suffix(".cpp")
TOLERANCE = {"float32": 2e-4, "float64": 1e-10}
"""Largest difference over largest value, of each array: sums are in another order where vectors are shorter."""


TARGETS: dict[str, tuple[list[str], list[str]]] = {
    "aarch64": (["aarch64-linux-gnu-g++", "-static"], ["qemu-aarch64-static"]),
    "x86-64-v3": (["c++", "-march=x86-64-v3"], []),
    "x86-64": (["c++", "-march=x86-64"], []),
}
"""By name: the compiler for it, and what runs its programs."""


def targets() -> list[str]:
    """The targets whose programs can be run here."""
    native = platform.machine() in ("x86_64", "AMD64")
    return [name for name in TARGETS if native or not name.startswith("x86")]


def build(compiler: Sequence[str], variant: str, program: Path) -> list[str]:
    """Command of a program that prints the numbers of a variant of the scan."""
    command = [*compiler, *FLAGS, *VARIANTS[variant], f"-I{HERE}", str(SOURCE), "-o", str(program)]
    subprocess.run(command, check=True)
    return [str(program)]


def numbers(command: Sequence[str]) -> dict[str, np.ndarray]:
    """What a program prints, by name."""
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, list[float]] = {}
    for line in printed.splitlines():
        name, value = line.split()
        found.setdefault(name, []).append(float(value))
    return {name: np.array(values) for name, values in found.items()}


def errors(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest difference of each array over its largest value."""
    if found.keys() != expected.keys():
        raise SystemExit(f"other arrays: {sorted(found.keys() ^ expected.keys())}")
    for name, value in expected.items():
        if not np.isfinite(value).all() or not value.any():
            raise SystemExit(f"{name} here is nothing that could be compared: {value[:5]}")
    return {name: float(np.abs(found[name] - value).max() / np.abs(value).max()) for name, value in expected.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Build, run, compare; ends with 1 where numbers differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"out of, and by default, {' '.join(targets())}")
    given = parser.parse_args(argv)
    chosen = given.targets or targets()
    for name in chosen:
        if name not in TARGETS:
            raise SystemExit(f"unknown target {name!r}; there are: {', '.join(TARGETS)}")
        for needed in (TARGETS[name][0][0], *TARGETS[name][1]):
            if shutil.which(needed) is None:
                raise SystemExit(f"{needed} was not found; see python scripts/processors.py --help")
    wrong = False
    with TemporaryDirectory() as folder:
        for variant in VARIANTS:
            native = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
            here = build(["c++", native], variant, Path(folder) / "here")
            programs = {
                name: TARGETS[name][1] + build(TARGETS[name][0], variant, Path(folder) / name) for name in chosen
            }
            for dtype, options in (("float32", []), ("float64", ["wide"])):
                expected = numbers([*here, *options])
                count = sum(len(value) for value in expected.values())
                for name, program in programs.items():
                    found = errors(numbers([*program, *options]), expected)
                    worst = max(found, key=lambda array: found[array])
                    wrong |= not found[worst] <= TOLERANCE[dtype]
                    said = f"{count} numbers, largest difference {found[worst]:.1e} ({worst})"
                    print(f"{name}, {variant}, {dtype}: {said}", flush=True)
    sys.exit(int(wrong))


if __name__ == "__main__":
    main()
