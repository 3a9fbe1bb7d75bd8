"""Peak memory of a contender's training step, asked of a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import torch

from .shapes import Shape

ROOT = Path(__file__).parents[2]
TIMEOUT = 900.0


class Peak(NamedTuple):
    """Rise of memory above what module and batch take.

    Args:
        bytes: the rise.
        method: by what it was measured; see `rnnnorm.bench.memory.rise`.
        backend: the one of rnnnorm's that ran; empty for others.
    """

    bytes: int
    method: str
    backend: str


def peak(contender: str, shape: Shape, norm: str, backend: str, device: torch.device) -> Peak:
    """Peak memory of a training step, in a process of its own: allocators never give everything back.

    Raises:
        ChildProcessError: the process failed; the message ends with what it said.
    """
    options = {"contender": contender, "shape": shape, "norm": norm, "backend": backend, "device": device}
    options["threads"] = torch.get_num_threads()
    command = [sys.executable, "-m", "rnnnorm.bench.memory", *(f"--{key}={value}" for key, value in options.items())]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=TIMEOUT, check=False)
    if done.returncode:
        raise ChildProcessError(f"{' '.join(command[1:])} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return Peak(**json.loads(done.stdout.splitlines()[-1]))
