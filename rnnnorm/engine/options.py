"""Options of every command that runs trials: which executor, how many at the same time."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rnnnorm.engine.executors.base import Executor, Terms
from rnnnorm.engine.executors.local import Local
from rnnnorm.engine.executors.processes import Processes
from rnnnorm.engine.folder import OWN, Sign
from rnnnorm.engine.work import Work

OPTIONS = ("jobs", "executor", "ray_address", "slurm")
EXECUTORS = ("local", "processes", "ray", "slurm")
EXTRAS = {"ray": "ray", "slurm": "submitit"}
"""Executors that need a library: the extra of the package has the executor's name."""


@dataclass(frozen=True)
class Options:
    """Where trials run.

    Args:
        jobs: how many at the same time; None: as many as the executor finds room for.
        executor: one of `EXECUTORS`; None: "local" for one job, else "processes".
        ray_address: of a Ray cluster; None: one on this machine.
        slurm: parameters of submitit, `partition=gpu,timeout_min=60`.
    """

    jobs: int | None = None
    executor: str | None = None
    ray_address: str | None = None
    slurm: str | None = None

    def resolved(self, jobs: int) -> Options:
        """The same with an executor chosen.

        Args:
            jobs: where the user does not say how many.

        Raises:
            ValueError: options that contradict each other, or an executor whose library is missing.
        """
        name = self.executor or ("local" if (self.jobs or jobs) == 1 else "processes")
        if name == "local" and self.jobs not in (None, 1):
            raise ValueError(f"--executor local does one trial at a time, not --jobs {self.jobs}: take processes")
        for option, value, owner in (("ray-address", self.ray_address, "ray"), ("slurm", self.slurm, "slurm")):
            if value is not None and name != owner:
                raise ValueError(f"--{option} {value} is for --executor {owner}, not for {name}")
        library = EXTRAS.get(name)
        if library is not None and find_spec(library) is None:
            raise ValueError(f"--executor {name} needs {library}: pip install 'rnnnorm[{name}]'")
        own = {"local": 1, "processes": self.jobs or jobs}
        return replace(self, executor=name, jobs=own.get(name, self.jobs))

    def start(self, local: Local, sign: Sign, out: Path, works: Sequence[Work]) -> Executor:
        """The executor, to be entered.

        Args:
            local: what does trials in this process; it says how many threads each has.
            sign: by which workers know that the command goes on.
            out: the output folder.
            works: the trials.
        """
        steps = not local.display.console.is_terminal  # in a terminal bars show that it goes on
        terms = Terms(local.threads, sign.path, 300.0 if self.executor == "slurm" else None, steps)
        width = min(self.jobs or len(works), len(works))
        if self.executor == "processes" and width > 1:
            modules = {getattr(work.do, "func", work.do).__module__ for work in works} - {"__main__"}
            return Processes(width, terms, sorted(modules))
        if self.executor == "ray":
            from rnnnorm.engine.executors.ray_cluster import RayCluster

            return RayCluster(self.ray_address, self.jobs, terms)
        if self.executor == "slurm":
            from rnnnorm.engine.executors.slurm_jobs import SlurmJobs

            return SlurmJobs(out / OWN / "slurm", self.jobs, self.slurm, terms)
        return local


def add_options(add: Callable[..., Any]) -> None:
    """Add the options to a parser.

    Args:
        add: the parser's `add_argument`, of argparse or jsonargparse.
    """
    add("--jobs", type=jobs, default=None, metavar="N", help="trials at the same time")
    add("--executor", choices=EXECUTORS, default=None, help="where they run; local for one job, else processes")
    add("--ray-address", default=None, metavar="HOST:PORT", help="Ray cluster (auto: that of this machine)")
    add("--slurm", default=None, metavar="KEY=VALUE,…", help="parameters of submitit: partition=gpu,timeout_min=60")


def jobs(text: str) -> int:
    """A number of jobs.

    Raises:
        ArgumentTypeError: not a positive whole number.
    """
    if not str(text).isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return int(text)


def default_jobs() -> int:
    """As many as there are cores for this process, at most 16."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, 16)
