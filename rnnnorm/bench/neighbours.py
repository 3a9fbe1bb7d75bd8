"""Busy neighbours: processes that compete for the cores while a step is timed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Self

from .steps import Step

SETTLE = 0.02
"""Seconds until the scheduler has given a neighbour that wakes up its share of a core."""

CAN_BE_STOPPED = hasattr(signal, "SIGSTOP")
"""Whether the system has signals that stop a process and let it go on; Windows has none."""


class Neighbours:
    """Processes that do nothing but compute, and that can be stopped and continued.

    Args:
        count: how many, at least 1.

    Raises:
        ValueError: fewer than one.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"expected at least one neighbour, got {count}")
        self.count = count
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        code = "while True: pass"
        self._processes = [subprocess.Popen([sys.executable, "-S", "-c", code]) for _ in range(self.count)]
        self.stop()
        return self

    def go(self) -> None:
        """Compute from now on."""
        for process in self._processes:
            process.send_signal(signal.SIGCONT)
        time.sleep(SETTLE)

    def stop(self) -> None:
        """Stand still."""
        for process in self._processes:
            process.send_signal(signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


class BesideNeighbours(Step):
    """A step that is timed while the neighbours compute; they stand still before and afterwards.

    Args:
        step: what is timed.
        neighbours: the processes.
    """

    def __init__(self, step: Step, neighbours: Neighbours) -> None:
        self.step, self.neighbours = step, neighbours

    def prepare(self) -> None:
        """Let the neighbours begin."""
        self.step.prepare()
        self.neighbours.go()

    def run(self) -> None:
        """Do the step."""
        self.step.run()

    def reset(self) -> None:
        """Let the neighbours stop."""
        self.neighbours.stop()
        self.step.reset()


def neighbours(threads: int) -> Neighbours:
    """One neighbour for every two threads, at least one."""
    return Neighbours(max(threads // 2, 1))
