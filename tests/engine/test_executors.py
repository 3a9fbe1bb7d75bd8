"""Every executor gives the same bits as runs one after the other, whatever becomes of its workers."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from compare.conftest import SMALL
from engine import trials
from engine.test_runner import wait_for
from rich.console import Console
from support import TIMELESS

from rnnnorm.compare.runner import compare
from rnnnorm.engine.executors.base import Terms
from rnnnorm.engine.folder import OWN, Sign
from rnnnorm.engine.options import Options
from rnnnorm.engine.work import Work

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(400)]

NORMS = ("none", "bn-timestep")
ELSEWHERE = {
    "processes": ["--jobs", "2"],
    "ray": ["--executor", "ray", "--jobs", "2"],
    "slurm": ["--executor", "slurm", "--slurm", "cluster=local"],
}


def compared(out: Path, *args: str) -> dict[str, dict[str, Any]]:
    """Results and best weights of a comparison, by norm."""
    config = out.with_suffix(".yaml")
    config.write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rnnnorm.report.build", lambda folder: folder / "report.html")
        command = ["-c", str(config), "--norms", ",".join(NORMS), "--out", str(out), *args]
        assert compare(command, Console(quiet=True)) == 0
    found = {}
    for norm in NORMS:
        folder = out / norm / "seed=0"
        weights = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        result = json.loads((folder / "result.json").read_text()) | TIMELESS
        found[norm] = {**result, "weights": weights, "sequences": (folder / "test_sequences.npz").read_bytes()}
    return found


@pytest.fixture(scope="module")
def sequential(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return compared(tmp_path_factory.mktemp("sequential") / "out", "--threads", "1")


@pytest.mark.parametrize("executor", ELSEWHERE)
def test_another_executor_changes_no_bit(executor: str, sequential: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    if executor != "processes":
        pytest.importorskip({"slurm": "submitit"}.get(executor, executor))
    found = compared(tmp_path / "out", *ELSEWHERE[executor])
    assert found["none"]["threads"] == 1
    for norm in NORMS:
        weights, other = (one[norm].pop("weights") for one in (found, dict(sequential, **{norm: {**sequential[norm]}})))
        assert weights.keys() == other.keys()
        assert all(torch.equal(weights[name], other[name]) for name in weights)
        assert found[norm] == {key: value for key, value in sequential[norm].items() if key != "weights"}


@pytest.mark.parametrize(
    ("executor", "terminal"),
    [
        ("processes", False),
        ("processes", True),
        *(pytest.param(name, False, marks=pytest.mark.release) for name in ELSEWHERE if name != "processes"),
    ],
)
def test_workers_say_how_far_they_are_where_no_bar_does(executor: str, terminal: bool, tmp_path: Path) -> None:
    options = {
        "processes": Options(jobs=2),
        "ray": Options(jobs=2, executor="ray"),
        "slurm": Options(executor="slurm", slurm="cluster=local"),
    }[executor]
    if executor != "processes":
        pytest.importorskip({"slurm": "submitit"}.get(executor, executor))
    names = [f"trial {k}" for k in range(3)]
    works = [Work(name, tmp_path / name, partial(trials.talk, name)) for name in names]
    console = Console(record=True, width=200, force_terminal=terminal, file=io.StringIO())
    assert trials.go(works, tmp_path, options, console).done == 3
    printed = console.export_text()
    if terminal:
        assert ": step " not in printed
        assert all(printed.count(f"{name}: by the way\n") == 1 for name in names)
    else:
        lines = printed.splitlines()
        for name in names:
            steps = [f"{name}: step {step} of {trials.STEPS}, train/loss 0.5" for step in range(1, trials.STEPS + 1)]
            assert [line for line in lines if line.startswith(name)] == [*steps[:7], f"{name}: by the way", *steps[7:]]
            (end,) = (k for k, line in enumerate(lines) if f"{name}: talked" in line)
            assert end > lines.index(steps[-1])
    assert not list((tmp_path / OWN).glob("running-*"))


@pytest.mark.parametrize("slow", [2, 3])
def test_ray_has_three_starts_on_a_busy_machine(slow: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ray_cluster = pytest.importorskip("rnnnorm.engine.executors.ray_cluster")
    starts: list[dict[str, Any]] = []

    def init(**options: Any) -> None:
        starts.append(options)
        if len(starts) <= slow:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray_cluster.api, "init", init)
    monkeypatch.setattr(ray_cluster.api, "shutdown", lambda: None)
    with pytest.raises(Exception, match="timed out") if slow == 3 else contextlib.nullcontext():
        ray_cluster._start({"address": None})
    assert starts == [{"address": None}] * 3


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Three machines with a core each, and a head without any."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def runs(pid: str) -> bool:
    """Whether there is such a process, and it has not ended: one that nobody has waited for has no command line."""
    path = Path(f"/proc/{pid}/cmdline")
    return path.is_file() and bool(path.read_bytes())


def test_a_machine_that_goes_away_costs_no_trial(cluster: Any, tmp_path: Path) -> None:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    works = [trials.work(tmp_path, seed) for seed in range(9)]
    (tmp_path / "wait").touch()

    def kill_one() -> None:
        wait_for(lambda: len(list(tmp_path.glob("seed=*/attempts"))) >= 3, 300)
        pids = [path.read_text().split()[0] for path in tmp_path.glob("seed=*/attempts")]
        cluster.remove_node(nodes[1], allow_graceful=False)
        wait_for(lambda: not all(runs(pid) for pid in pids), 300)
        (tmp_path / "wait").unlink()

    killer = threading.Thread(target=kill_one)
    killer.start()
    outcome = trials.go(works, tmp_path, Options(executor="ray", ray_address=cluster.address))
    killer.join()
    assert (outcome.done, outcome.failed, outcome.waiting) == (9, [], [])
    assert [trials.value(tmp_path, seed) for seed in range(9)] == [trials.expected(seed) for seed in range(9)]
    assert sum(trials.attempts(tmp_path, seed) for seed in range(9)) > 9


def test_a_job_that_slurm_takes_away_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    from rnnnorm.engine.executors.slurm_jobs import SlurmJobs

    work = trials.work(tmp_path, 0, pause=0.2)
    with Sign(tmp_path) as sign, SlurmJobs(tmp_path / "jobs", 1, "cluster=local", Terms(1, sign.path)) as executor:
        (future,) = executor.submit([(work, None)])
        (job,) = executor._jobs.values()
        wait_for(lambda: (work.folder / "state.json").is_file(), 300)
        os.kill(int((work.folder / "attempts").read_text()), signal.SIGUSR2)  # as Slurm does
        assert future.result(300).status == "done"
    assert trials.value(tmp_path, 0) == trials.expected(0)
    assert trials.attempts(tmp_path, 0) == 2
    assert not work.error.exists()
    assert not list((tmp_path / "jobs").glob(f"{job.job_id}_*"))


def test_parameters_of_submitit() -> None:
    pytest.importorskip("submitit")
    from rnnnorm.engine.executors.slurm_jobs import parse

    assert parse("partition=gpu,timeout_min=60,exclude=a,b") == {
        "partition": "gpu",
        "timeout_min": 60,
        "exclude": "a,b",
    }
    assert parse(None) == {}
    with pytest.raises(ValueError, match="KEY=VALUE"):
        parse("gpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(jobs=2, executor="local"), "--executor local does one trial at a time"),
        (Options(ray_address="auto"), "--ray-address auto is for --executor ray, not for local"),
        (Options(jobs=2, slurm="a=b"), "--slurm a=b is for --executor slurm, not for processes"),
    ],
)
def test_options_that_contradict_each_other(options: Options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options.resolved(1)


@pytest.mark.parametrize(("name", "library"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_library_that_is_missing_is_named(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnnorm.engine.options.find_spec", lambda asked: asked != library or None)
    with pytest.raises(ValueError, match=rf"--executor {name} needs {library}: pip install 'rnnnorm\[{name}\]'"):
        Options(executor=name).resolved(1)
    assert Options().resolved(1) == Options(1, "local")
    assert Options().resolved(4) == Options(4, "processes")


def test_slurm_without_slurm_and_with_an_unknown_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    works = [trials.work(tmp_path, 0)]
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match=r"--executor slurm: .*srun"):
        trials.go(works, tmp_path, Options(executor="slurm"))
    with pytest.raises(ValueError, match=r"--executor slurm: .*nope"):
        trials.go(works, tmp_path, Options(executor="slurm", slurm="cluster=local,nope=1"))


def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(ValueError, match="--ray-address auto: no Ray cluster is there"):
        trials.go([trials.work(tmp_path, 0)], tmp_path, Options(executor="ray", ray_address="auto"))
