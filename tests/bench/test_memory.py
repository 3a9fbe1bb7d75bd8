"""Peak memory: by what Linux tells, in a process of its own."""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rnnnorm.bench import memory
from rnnnorm.bench.memory import PROC, forget_peak, highest, main, measure, rise, status
from rnnnorm.bench.peak import peak
from rnnnorm.bench.records import OURS, SCRIPTED, TORCH
from rnnnorm.bench.shapes import Shape
from rnnnorm.bench.steps import Step

CPU = torch.device("cpu")
TINY = Shape(4, 2, 3, 4)
MIB = 2**20
linux = pytest.mark.skipif(not forget_peak(), reason="needs a system that lets us reset the peak resident size")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """What Linux shows about a process with 100 MiB resident that once had 300 MiB."""
    folder = tmp_path / "self"
    folder.mkdir()
    (folder / "clear_refs").write_text("")
    write_status(folder, resident=100 * 1024, peak=300 * 1024)
    return folder


def write_status(folder: Path, resident: int, peak: int) -> None:
    lines = [
        "Name:\tpython",
        f"VmPeak:\t {9 * peak} kB",
        f"VmHWM:\t  {peak} kB",
        f"VmRSS:\t  {resident} kB",
        "Threads:\t1",
    ]
    (folder / "status").write_text("\n".join(lines) + "\n")


class Grow(Step):
    """A step after which the peak is another; counts runs and resets."""

    def __init__(self, folder: Path, *peaks: int) -> None:
        self.folder, self.peaks, self.log = folder, peaks, ""

    def run(self) -> None:
        self.log += "r"
        write_status(self.folder, resident=100 * 1024, peak=self.peaks[min(self.log.count("r"), len(self.peaks)) - 1])

    def reset(self) -> None:
        self.log += "0"


def test_a_status_line_is_read_in_bytes(proc: Path) -> None:
    assert status("VmRSS", proc) == 100 * MIB
    assert status("VmHWM", proc) == 300 * MIB
    assert status("HWM", proc) is None  # the beginning of a line, not its middle
    assert status("VmSwap", proc) is None
    assert status("VmRSS", proc / "nowhere") is None


def test_the_peak_is_forgotten_by_writing_five(proc: Path) -> None:
    assert forget_peak(proc)
    assert (proc / "clear_refs").read_text() == "5"
    assert not forget_peak(proc / "nowhere")


def test_the_rise_is_the_new_peak_above_the_level_before(proc: Path) -> None:
    step = Grow(proc, 110 * 1024, 140 * 1024)
    assert rise(step, CPU, proc=proc) == (40 * MIB, "VmHWM")
    assert step.log == "r0r0"
    assert (proc / "clear_refs").read_text() == "5"


def test_runs_can_be_repeated(proc: Path) -> None:
    step = Grow(proc, 110 * 1024)
    rise(step, CPU, repeats=4, proc=proc)
    assert step.log == "r0" * 4


def test_a_rise_is_at_least_one_page(proc: Path) -> None:
    assert rise(Grow(proc, 100 * 1024), CPU, proc=proc) == (mmap.PAGESIZE, "VmHWM")


@pytest.mark.parametrize("present", [True, False], ids=["no reset", "no proc"])
def test_without_a_peak_that_can_be_reset_getrusage_must_do(
    present: bool, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the level is not known either, it is the peak so far."""
    (proc / "clear_refs").unlink()
    (proc / "clear_refs").mkdir()  # cannot be written to, whoever we are
    step = Grow(proc, 999 * 1024)
    monkeypatch.setattr(memory, "highest", lambda: 150 * MIB if step.log else 120 * MIB)
    expected = 50 if present else 30
    assert rise(step, CPU, proc=proc if present else proc / "nowhere") == (expected * MIB, "getrusage")
    assert step.log == "r0r0"


def test_getrusage_counts_in_bytes() -> None:
    resident = status("VmRSS")
    if resident is None:
        pytest.skip("needs /proc to compare with")
    assert resident / 2 < highest() < 1024 * resident


def test_a_gpus_rise_is_what_its_allocator_hands_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []

    class Run(Step):
        def run(self) -> None:
            calls.append("run")

    device = torch.device("cuda:1")
    for name, result in {
        "synchronize": None,
        "reset_peak_memory_stats": None,
        "memory_allocated": 3000,
        "max_memory_allocated": 8000,
    }.items():

        def recorded(given: torch.device, name: str = name, result: int | None = result) -> int | None:
            assert given == device
            calls.append(name)
            return result

        monkeypatch.setattr(torch.cuda, name, recorded)
    assert rise(Run(), device, proc=tmp_path) == (5000, "max_memory_allocated")
    before = ["synchronize", "reset_peak_memory_stats", "memory_allocated"]
    assert calls == [*before, "run", "run", "synchronize", "max_memory_allocated"]


ALONE = """
import torch
from rnnnorm.bench.memory import rise
from rnnnorm.bench.steps import Step

class Allocate(Step):
    def run(self):
        torch.ones(48 << 20, dtype=torch.uint8)

class Nothing(Step):
    def run(self):
        pass

torch.ones(8)
for step in Allocate(), Nothing():
    print(*rise(step, torch.device("cpu")))
"""


@linux
def test_a_tensor_that_comes_and_goes_is_seen_and_not_seen_again() -> None:
    """In a process of its own, as `peak` measures: other tests' threads may allocate at any time in this one."""
    lines = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True).stdout.split()
    allocated, first, nothing, second = lines
    assert first == second == "VmHWM"
    assert 47 * MIB < int(allocated) < 60 * MIB
    assert int(nothing) < 8 * MIB
    assert Path("/proc/self") == PROC


@pytest.mark.parametrize(("contender", "norm"), [(TORCH, "none"), (OURS, "ln"), (SCRIPTED, "ln")])
def test_a_contenders_measure_names_its_backend(contender: str, norm: str) -> None:
    found = measure(contender, TINY, norm, "reference", CPU)
    assert set(found) == {"bytes", "method", "backend"}
    assert int(found["bytes"]) >= mmap.PAGESIZE
    assert found["backend"] == ("reference" if contender == OURS else "")


def test_the_process_prints_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    assert main(["--contender", OURS, "--shape", str(TINY), "--norm", "ln", "--threads", str(threads)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bytes"] > 0
    assert found["backend"] in ("native", "reference")


@pytest.mark.parametrize("args", [[], ["--shape", "1,2,3"]], ids=["no shape", "half a shape"])
def test_the_process_refuses_what_is_no_shape(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    assert "--shape" in capsys.readouterr().err


def test_a_larger_layer_takes_more_memory_in_a_process_of_its_own() -> None:
    """Outputs and gates alone are T·B·5H floats: 10 MiB in the large layer, 10 KiB in the small one."""
    small, large = Shape(8, 8, 4, 8), Shape(64, 64, 4, 128)
    found = [peak(OURS, shape, "ln", "reference", CPU) for shape in (small, large)]
    assert found[0].bytes > 0
    assert found[0].backend == found[1].backend == "reference"
    assert found[0].method == found[1].method
    if found[1].method == "VmHWM":
        assert found[1].bytes - found[0].bytes > 64 * 64 * 5 * 128 * 4


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(ChildProcessError, match=r"unknown contender 'nope'; there are: torch.nn.LSTM") as error:
        peak("nope", TINY, "none", "auto", CPU)
    assert "rnnnorm.bench.memory" in str(error.value)
