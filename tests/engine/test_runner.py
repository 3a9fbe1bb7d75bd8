"""The engine: all trials are done, lost ones again, and nobody else is punished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from engine import trials
from rich.console import Console

import rnnnorm
from rnnnorm.engine.control import Interrupt
from rnnnorm.engine.folder import OWN, Sign, Watch
from rnnnorm.engine.options import Options
from rnnnorm.engine.progress import Display
from rnnnorm.engine.runner import Budget
from rnnnorm.engine.work import Report, Work


def wait_for(condition: Callable[[], bool], seconds: float = 150) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_lost_workers_are_replaced_and_neighbours_are_not_punished(tmp_path: Path) -> None:
    """One trial kills its worker twice, one always, one is undisturbed beside them."""
    console = Console(record=True, width=200, force_terminal=False)
    works = [
        trials.work(tmp_path, 0, deaths=2),
        trials.work(tmp_path, 1, deaths=99),
        trials.work(tmp_path, 2, pause=0.1),
        trials.work(tmp_path, 3),
    ]
    outcome = trials.go(works, tmp_path, Options(jobs=3), console)
    assert [trials.value(tmp_path, seed) for seed in (0, 2, 3)] == [trials.expected(seed) for seed in (0, 2, 3)]
    assert [trials.attempts(tmp_path, seed) for seed in range(4)] == [3, 3, 1, 1]
    assert [work.name for work in outcome.failed] == ["trial 1"]
    assert (outcome.done, outcome.code) == (3, 1)
    printed = console.export_text()
    assert printed.count("trial 0: its worker was lost, BrokenProcessPool") == 2
    assert "[4/4]" in printed
    assert "trial 1: failed, its worker was lost, BrokenProcessPool" in printed
    assert "(3 attempts)" in works[1].error.read_text() + printed
    assert works[1].error.is_file()


def test_a_trial_that_raises_is_not_tried_again(tmp_path: Path) -> None:
    wrong = Work("wrong", tmp_path / "wrong", trials.fail)
    console = Console(record=True, width=200, force_terminal=False)
    outcome = trials.go([wrong, trials.work(tmp_path, 1)], tmp_path, Options(jobs=2), console)
    assert outcome.failed == [wrong]
    assert console.export_text().count("ZeroDivisionError: a mistake") == 1
    assert "in fail" in wrong.error.read_text()
    assert trials.value(tmp_path, 1) == trials.expected(1)


def test_what_must_be_alone_is_done_last_in_this_process(tmp_path: Path) -> None:
    works = [trials.work(tmp_path, 0, alone=True), trials.work(tmp_path, 1), trials.work(tmp_path, 2)]
    assert trials.go(works, tmp_path, Options(jobs=2)).done == 3
    pids = [int((tmp_path / f"seed={seed}" / "attempts").read_text()) for seed in range(3)]
    assert pids[0] == os.getpid()
    assert os.getpid() not in pids[1:]
    assert (tmp_path / "seed=0/result.json").stat().st_mtime >= (tmp_path / "seed=2/result.json").stat().st_mtime


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_signal_stops_at_the_next_step_and_nothing_is_lost(tmp_path: Path, number: int, jobs: int) -> None:
    def press(interrupt: Interrupt, display: Display, seconds: float | None) -> Report:
        os.kill(os.getpid(), number)
        return Report()

    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    slow = [trials.work(tmp_path, seed, pause=0.05) for seed in range(3)]
    first = [Work("press", tmp_path / "press", press)] if jobs == 1 else []
    if jobs == 2:
        pid, me = os.fork(), os.getppid()
        if pid == 0:  # pragma: no cover
            wait_for(lambda: all((tmp_path / f"seed={seed}" / "state.json").is_file() for seed in (0, 1)))
            os.kill(os.getppid(), number)
            os._exit(int(me < 0))
    outcome = trials.go([*first, *slow], tmp_path, Options(jobs=jobs))
    assert outcome.code == 128 + number
    assert len(outcome.waiting) == 3
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    if jobs == 2:
        os.waitpid(pid, 0)
    assert trials.go(slow, tmp_path, Options()).done == 3
    assert [trials.value(tmp_path, seed) for seed in range(3)] == [trials.expected(seed) for seed in range(3)]


def test_a_command_that_is_killed_takes_its_workers_along_and_goes_on_later(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": f"{Path(rnnnorm.__file__).parents[1]}:{Path(__file__).parents[1]}"}
    command = [sys.executable, str(Path(trials.__file__)), str(tmp_path), "2"]
    driver = subprocess.Popen(command, env=env)
    wait_for(lambda: all((tmp_path / f"seed={seed}" / "state.json").is_file() for seed in (0, 1)))
    workers = [int((tmp_path / f"seed={seed}" / "attempts").read_text()) for seed in (0, 1)]
    driver.kill()
    driver.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}").is_dir() for pid in workers))
    assert not (tmp_path / "seed=0" / "result.json").exists()
    subprocess.run(command, env=env, check=True)
    assert [trials.value(tmp_path, seed) for seed in range(3)] == [trials.expected(seed) for seed in range(3)]


def test_event_files_of_an_attempt_without_a_checkpoint_are_deleted(tmp_path: Path) -> None:
    one, other = trials.work(tmp_path, 0), trials.work(tmp_path, 1)
    for work in (one, other):
        (work.folder / "events.out.tfevents.1.host.1.0").touch()
    (other.folder / "checkpoints").mkdir()
    (other.folder / "checkpoints" / "last.ckpt").touch()
    trials.go([one, other], tmp_path, Options())
    assert not list(one.folder.glob("events*"))
    assert list(other.folder.glob("events*"))


def test_a_signal_handler_does_not_wait_for_what_it_has_interrupted(tmp_path: Path) -> None:
    """Signals arrive between any two instructions, also while this thread asks whether to stop."""
    with Sign(tmp_path) as sign:
        interrupt = Interrupt(sign.remove)
        handled = 0

        def handle(number: int, frame: object) -> None:
            nonlocal handled
            interrupt.requested = False
            interrupt._handle(signal.SIGINT, None)
            handled += 1
            signal.setitimer(signal.ITIMER_REAL, 1e-4)  # once: a second one inside this would be a second Ctrl-C

        before = signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 1e-4)
        try:
            while handled < 1000:
                sign.renew()
                assert interrupt.requested in (True, False)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert interrupt.requested


def test_a_sign_that_a_signal_handler_removed_is_not_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where it is removed between being asked for and being touched."""
    with Sign(tmp_path) as sign:
        sign.remove()
        monkeypatch.setattr(time, "monotonic", lambda: sign._renewed + 16)
        sign.renew()
        assert not sign.path.exists()


def test_a_worker_stops_when_the_sign_is_gone_or_not_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Sign(tmp_path) as sign:
        patient, watch = Watch(sign.path), Watch(sign.path, patience=100)
        for now[0] in (0, 50, 99):
            assert not patient.requested
            assert not watch.requested
        os.utime(sign.path, (1, 1))  # renewed, by a clock that is wrong
        for now[0] in (150, 240):
            assert not watch.requested
        now[0] = 300
        assert watch.requested
        assert not patient.requested
    now[0] = 301
    assert patient.requested
    assert not list((tmp_path / OWN).glob("running-*"))


def test_time_is_shared_among_those_that_run_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    budget = Budget(1)
    assert budget.share(6, 1) == 10
    assert budget.share(6, 2) == 20
    assert budget.share(5, 2) == 20
    assert budget.share(6, None) == 60
    assert Budget(None).share(6, 1) is None


def test_threads_are_those_asked_for(tmp_path: Path) -> None:
    seen: list[int] = []

    def note(interrupt: Interrupt, display: Display, seconds: float | None) -> Report:
        seen.append(torch.get_num_threads())
        return Report()

    before = torch.get_num_threads()
    trials.run([Work("note", tmp_path / "note", note)], tmp_path, Options(1, "local"), 2, Console(quiet=True))
    assert seen == [2]
    assert torch.get_num_threads() == before


def test_a_picklable_trial_is_needed_only_by_other_processes(tmp_path: Path) -> None:
    work = Work("closure", tmp_path / "closure", lambda interrupt, display, seconds: Report())
    assert trials.go([work], tmp_path, Options()).done == 1
    assert partial(trials.fail)  # the module can be imported by workers
