"""What a trial costs beside what it does, by executor: the numbers in docs/scaling.md."""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from rnnnorm.engine.control import Interrupt
from rnnnorm.engine.options import Options
from rnnnorm.engine.progress import Display
from rnnnorm.engine.runner import run
from rnnnorm.engine.work import Report, Work

EXECUTORS = {
    "local": Options(),
    "processes": Options(jobs=2),
    "ray": Options(jobs=2, executor="ray"),
    "slurm": Options(jobs=2, executor="slurm", slurm="cluster=local"),
}


def nothing(interrupt: Interrupt, display: Display, seconds: float | None) -> Report:
    return Report()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("executor", choices=EXECUTORS)
    parser.add_argument("--trials", type=int, default=1000)
    given = parser.parse_args()
    from scaling import nothing  # not of `__main__`, which workers do not have

    with TemporaryDirectory() as folder:
        out = Path(folder)
        works = [Work(str(i), out / f"seed={i}", nothing) for i in range(given.trials)]
        options, console = EXECUTORS[given.executor].resolved(1), Console(quiet=True)
        took = []
        for part in (works[:2], works[2:]):  # the first pays for the start
            began = time.monotonic()
            outcome = run(part, out, options, 1, console)
            took.append(time.monotonic() - began)
            assert outcome.done == len(part), outcome
        files = sum(path.is_file() for path in out.rglob("*"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cpu = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(
        f"{given.executor}: {given.trials} trials, {took[0]:.1f} s for the first two, then {took[1]:.2f} s, "
        f"{cpu:.1f} s of CPU, {peak:.0f} MiB in the driver, {files} files left"
    )


if __name__ == "__main__":
    sys.exit(main())
