"""One command at a time in a folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rnnnorm.cli import main
from rnnnorm.engine.folder import OWN, locked

HOLD = """
import sys
from pathlib import Path
from rnnnorm.engine.folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_command_is_refused_while_the_first_lives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for command in (["compare", "--out"], ["study", "gradient-flow", "--quick", "--out"]):
            assert main([*command, str(tmp_path)]) == 2
            error = capsys.readouterr().err.strip()
            assert f"{tmp_path} is in use by process {holder.pid} on {socket.gethostname()}" in error
            assert "\n" not in error
        holder.kill()
        holder.wait()
        assert (tmp_path / OWN / "driver.json").is_file()
        with locked(tmp_path):
            assert str(os.getpid()) in (tmp_path / OWN / "driver.json").read_text()
    assert not (tmp_path / OWN / "driver.json").exists()


def test_workers_of_a_killed_command_are_told_to_stop(tmp_path: Path) -> None:
    sign = tmp_path / OWN / "running-1"
    sign.parent.mkdir()
    sign.touch()
    with locked(tmp_path):
        assert not sign.exists()
