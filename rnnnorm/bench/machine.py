"""Description of the machine on which a number was measured."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from .._version import __version__
from .allocator import current


def describe(device: torch.device) -> dict[str, Any]:
    """Processor, cores, threads, instruction set, accelerator, versions, load, date."""
    affinity = getattr(os, "sched_getaffinity", None)
    load = getattr(os, "getloadavg", None)
    return {
        "cpu": cpu_model(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "malloc": current(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "rnnnorm": __version__,
        "load": round(load()[0], 2) if load else None,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def cpu_model(path: str = "/proc/cpuinfo") -> str:
    """The processor's name as Linux tells it, with family and model where it has such; elsewhere what Python knows.

    Machines in a data centre are often named by their make only, which says nothing of what they do in a cycle.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    pairs = [line.split(":", 1) for line in lines if ":" in line]
    facts: dict[str, str] = {}
    for key, value in pairs:
        if value.strip():
            facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name") or facts.get("Model") or platform.processor() or platform.machine()
    return (
        f"{name} (family {facts['cpu family']}, model {facts['model']})"
        if {"cpu family", "model"} <= facts.keys()
        else name
    )


def one_line(machine: dict[str, Any]) -> str:
    """The machine in one line, for titles; its allocator where that is not the usual one."""
    where = machine["cpu"] if machine["device"] == "cpu" else f"{machine['device']}, {machine['cpu']}"
    malloc = "" if machine.get("malloc", "default") == "default" else f"malloc {machine['malloc']}, "
    return (
        f"{where}, {machine['cores']} cores, {machine['threads']} threads, {machine['isa']}, {malloc}"
        f"torch {machine['torch']}, rnnnorm {machine['rnnnorm']}"
    )
