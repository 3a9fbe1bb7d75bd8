"""The same bits in every process: threads, workers, machines that go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from support import TIMELESS

if TYPE_CHECKING:
    from at_step import AtStep

    from tests.compare.conftest import Small

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("without_report")]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A machine with one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights(folder: Path) -> dict[str, Any]:
    path = folder / "checkpoints" / "best.ckpt"
    return torch.load(path, weights_only=True)["state_dict"]  # type: ignore[no-any-return]


def same_bits(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def configuration(small: Small) -> dict[str, Any]:
    return yaml.safe_load((small.out / "compare.yaml").read_text())  # type: ignore[no-any-return]


def test_the_number_is_written_down_and_put_back(small: Small) -> None:
    assert small("--threads", "2") == 0
    assert configuration(small)["threads"] == small.result()["threads"] == 2
    assert torch.get_num_threads() == 1
    assert "CPU thread" not in small.printed
    assert small(out=small.out.with_name("other")) == 0
    assert small.result(out=small.out.with_name("other"))["threads"] == 1


def test_another_machine_goes_on_with_the_number_it_began_with(small: Small, tmp_path: Path, at_step: AtStep) -> None:
    whole = tmp_path / "whole"
    assert small("--threads", "2", out=whole) == 0
    pending = [signal.SIGINT]
    at_step(8, lambda trainer: os.kill(os.getpid(), pending.pop()) if pending else None)
    assert small("--threads", "2") == 130
    assert small() == 0
    assert "2 CPU threads, as the runs before; --threads says otherwise" in small.printed
    assert small.result() | TIMELESS == small.result(out=whole) | TIMELESS
    same_bits(small.out / "none/seed=0", whole / "none/seed=0")


def test_who_asks_for_another_number_gets_it_and_is_told(small: Small) -> None:
    assert small("--threads", "2") == 0
    assert small("--threads", "1", "--seeds", "2") == 0
    assert "the runs before had 2 CPU threads: those left have 1, and other last digits" in small.printed
    assert [small.result(seed=seed)["threads"] for seed in (0, 1)] == [2, 1]
    assert configuration(small)["threads"] == 1


def test_runs_that_are_deleted_do_not_count(small: Small) -> None:
    assert small("--threads", "2") == 0
    assert small("--model.hidden_size", "5", "--overwrite") == 0
    assert small.result()["threads"] == configuration(small)["threads"] == 1
    assert "CPU thread" not in small.printed


def test_a_folder_of_before_threads_were_written_down(small: Small) -> None:
    assert small() == 0
    old = configuration(small)
    del old["threads"]
    (small.out / "compare.yaml").write_text(yaml.safe_dump(old))
    assert small("--threads", "2", "--seeds", "2") == 0
    assert "CPU thread" not in small.printed


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"- 1", b"{", b"threads: many\n"], ids=str)
def test_a_configuration_that_is_none(small: Small, content: bytes) -> None:
    assert small() == 0
    (small.out / "compare.yaml").write_bytes(content)
    with pytest.raises(ValueError, match="--overwrite to delete"):
        small()
    assert small("--overwrite") == 0
    assert "skipped" not in small.printed


def test_workers_change_no_bit(small: Small) -> None:
    other = small.out.with_name("workers")
    assert small() == 0
    assert small("--data.num_workers", "2", out=other) == 0
    assert small.result() | TIMELESS == small.result(out=other) | TIMELESS
    same_bits(small.out / "none/seed=0", other / "none/seed=0")


def test_processes_change_no_bit(small: Small) -> None:
    norms, results = ("none", "bn-timestep"), []
    folders = [small.out.with_name(name) for name in "ab"]
    for out, variables in zip(folders, ({"OMP_NUM_THREADS": "1"}, {"PYTHONHASHSEED": "7"}), strict=True):
        options = ["-c", str(small.config), "--norms", ",".join(norms), "--threads", "2", "--out", str(out)]
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | variables
        command = [sys.executable, "-m", "rnnnorm", "compare", *options]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        found = [json.loads((out / norm / "seed=0/result.json").read_text()) for norm in norms]
        results.append([result | TIMELESS for result in found])
    assert results[0] == results[1]
    for norm in norms:
        same_bits(folders[0] / norm / "seed=0", folders[1] / norm / "seed=0")
