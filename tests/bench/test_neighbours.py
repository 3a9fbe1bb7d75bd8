"""Busy neighbours: they compute only while a step is timed, and end with the benchmark."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from rnnnorm.bench import Contest, Settings, Shape, measure
from rnnnorm.bench.neighbours import CAN_BE_STOPPED, BesideNeighbours, Neighbours, neighbours
from rnnnorm.bench.records import BUSY, OURS, RATIO, TORCH, frame, pick
from rnnnorm.bench.steps import Step

pytestmark = pytest.mark.skipif(not CAN_BE_STOPPED, reason="processes cannot be stopped here")


def seconds(pid: int) -> float:
    """Time that a process has spent on a core."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads times from /proc")
def test_they_compute_between_go_and_stop_and_end_with_the_block() -> None:
    with Neighbours(1) as them:
        (process,) = them._processes
        time.sleep(0.1)
        begun = seconds(process.pid)
        time.sleep(0.2)
        assert seconds(process.pid) == begun
        them.go()
        deadline = time.monotonic() + 20
        while seconds(process.pid) < begun + 0.05 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert seconds(process.pid) >= begun + 0.05
        them.stop()
    assert process.returncode


@pytest.mark.parametrize(("threads", "count"), [(1, 1), (2, 1), (5, 2)])
def test_one_for_every_two_threads(threads: int, count: int) -> None:
    with neighbours(threads) as them:
        assert len(them._processes) == count


def test_none_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one neighbour, got 0"):
        Neighbours(0)


def test_they_go_before_and_stop_after_the_step() -> None:
    said: list[str] = []

    class Told(Step):
        def prepare(self) -> None:
            said.append("ready")

        def run(self) -> None:
            said.append("run")

        def reset(self) -> None:
            said.append("reset")

    class Heard(Neighbours):
        def go(self) -> None:
            said.append("go")

        def stop(self) -> None:
            said.append("stop")

    step = BesideNeighbours(Told(), Heard(1))
    step.prepare()
    step.run()
    step.reset()
    assert said == ["ready", "go", "run", "stop", "reset"]


@pytest.mark.parametrize("part", ["busy", "busy-forward"])
def test_ratios_to_torch_and_to_the_quiet_time(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[bool] = []

    def interleave(steps: dict[Any, Step], *_: Any) -> dict[Any, list[float]]:
        for step in steps.values():
            step.prepare()
            step.run()
            step.reset()
            inner = step.step if isinstance(step, BesideNeighbours) else step
            trained.append(hasattr(inner, "leaf"))
        return {(one, busy): [(4.0 if one.name == TORCH else 2.0) * (3.0 if busy else 1.0)] * 5 for one, busy in steps}

    monkeypatch.setattr("rnnnorm.bench.measure.interleave", interleave)
    settings = Settings(presets=("none", "ln"), shapes=(Shape(3, 2, 2, 4),))
    records = frame(measure.measure(Contest(part, settings.shapes[0], norms=("none", "ln")), settings))
    assert set(trained) == {part == "busy"}
    assert pick(records, metric=RATIO, contender=OURS)["median"].tolist() == [0.5, 0.5]
    assert pick(records, metric=BUSY)["median"].tolist() == [3.0, 3.0, 3.0]
    assert pick(records, metric=BUSY, contender=OURS)["ms"].tolist() == [6000.0, 6000.0]
    assert torch.is_grad_enabled()
