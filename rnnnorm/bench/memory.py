"""Memory of a training step, measured in a fresh process: `python -m rnnnorm.bench.memory --help`."""

from __future__ import annotations

import argparse
import gc
import json
import mmap
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..nn.lstm import LSTM
from .batch import Batch
from .contenders import build, make_step
from .records import TORCH
from .shapes import Shape, parse_shape
from .steps import Step

PROC = Path("/proc/self")
TINY = Shape(2, 2, 2, 2)


def status(name: str, proc: Path = PROC) -> int | None:
    """A line of /proc/self/status in bytes, such as VmRSS; None where there is none."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", (proc / "status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def forget_peak(proc: Path = PROC) -> bool:
    """Set the peak resident size back to the present one; False where the system does not let us."""
    try:
        (proc / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def highest() -> int:
    """Peak resident size of the process since it began, in bytes."""
    import resource  # not there on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def rise(step: Step, device: torch.device, repeats: int = 2, proc: Path = PROC) -> tuple[int, str]:
    """Rise of memory above its present level while a step runs, in bytes, and the method of measurement.

    On a GPU that is what the allocator has handed out; on a CPU the resident set size: VmHWM where its peak can be
    reset, otherwise getrusage, which never falls. At least one page, the resolution.

    Args:
        step: what is run.
        device: where it runs.
        repeats: runs, with a reset after each.
        proc: the folder that Linux shows about this process.
    """

    def run() -> None:
        for _ in range(repeats):
            step.run()
            step.reset()

    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return max(torch.cuda.max_memory_allocated(device) - before, 1), "max_memory_allocated"
    resident = status("VmRSS", proc)
    if resident is not None and forget_peak(proc):
        run()
        peak, method = status("VmHWM", proc) or resident, "VmHWM"
    else:
        resident = highest() if resident is None else resident
        run()
        peak, method = highest(), "getrusage"
    return max(peak - resident, mmap.PAGESIZE), method


def measure(contender: str, shape: Shape, norm: str, backend: str, device: torch.device) -> dict[str, int | str]:
    """Peak of a training step above what module and batch take, after the libraries have been woken by a tiny one."""
    tiny = make_step(build(contender, TINY, norm, backend, device), Batch(TINY, "dense", device), "padded", True)
    for _ in range(5):  # TorchScript compiles during its first calls
        tiny.run()
        tiny.reset()
    module = build(contender, shape, norm, backend, device)
    bytes_, method = rise(make_step(module, Batch(shape, "dense", device), "padded", True), device)
    return {"bytes": bytes_, "method": method, "backend": module.ran if isinstance(module, LSTM) else ""}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure one contender and print a line of JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m rnnnorm.bench.memory", description="Peak memory of one training step, as a line of JSON."
    )
    parser.add_argument("--contender", default=TORCH, help=f"default: {TORCH}")
    parser.add_argument("--shape", type=parse_shape, required=True, metavar="T,B,I,H")
    parser.add_argument("--norm", default="none")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    print(json.dumps(measure(given.contender, given.shape, given.norm, given.backend, given.device)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
