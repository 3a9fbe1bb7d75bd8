"""Where a number was measured."""

from __future__ import annotations

import json
import platform
import re
from pathlib import Path

import pytest
import torch

from rnnnorm import __version__
from rnnnorm.bench.machine import cpu_model, describe, one_line


def test_a_machine_is_described_for_a_json_file() -> None:
    machine = describe(torch.device("cpu"))
    assert json.loads(json.dumps(machine)) == machine
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert machine["threads"] == torch.get_num_threads()
    assert machine["device"] == "cpu"
    assert machine["torch"] == torch.__version__
    assert machine["rnnnorm"] == __version__
    assert machine["python"] == platform.python_version()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", machine["date"])


def test_a_gpu_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Some GPU {device.index}")
    machine = describe(torch.device("cuda:1"))
    assert machine["device"] == "Some GPU 1"
    assert one_line(machine).startswith(f"Some GPU 1, {machine['cpu']}, ")


def test_one_line_has_what_a_title_needs() -> None:
    machine = {
        "cpu": "Some CPU",
        "device": "cpu",
        "cores": 8,
        "threads": 4,
        "isa": "AVX2",
        "torch": "2",
        "rnnnorm": "1",
    }
    assert one_line(machine) == "Some CPU, 8 cores, 4 threads, AVX2, torch 2, rnnnorm 1"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "processor\t: 0\nmodel name\t: Fast CPU @ 3.0GHz: rev 2\nprocessor\t: 1\nmodel name\t: Other\n",
            "Fast CPU @ 3.0GHz: rev 2",
        ),
        ("processor\t: 0\nBogoMIPS\t: 108\n\nModel\t\t: Some Board\n", "Some Board"),
        ("model name\t:\nmodel name\t: Second\n", "Second"),
        ("cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: Any\nmodel\t\t: 1\n", "Any (family 25, model 17)"),
    ],
    ids=["x86", "arm", "empty", "family"],
)
def test_the_processor_is_the_first_that_linux_names(text: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert cpu_model(str(path)) == name


@pytest.mark.parametrize("text", [None, "", "processor: 0\n"], ids=["no file", "empty", "nameless"])
def test_elsewhere_python_names_the_processor(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert cpu_model(str(path)) == "arm"
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert cpu_model(str(path)) == platform.machine()
