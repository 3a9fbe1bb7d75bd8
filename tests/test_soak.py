"""The soak: two thousand generated cases, and whether it notices what must not be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CACHE = {name: value for name, value in os.environ.items() if name != "RNNNORM_CACHE"}


def soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/soak.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=CACHE, capture_output=True, text=True, check=False)


def total(said: str) -> list[int]:
    """Cases, accepted, refused, stricter, allowed, failed."""
    (row,) = re.findall(r"^all +(.*)$", said, re.MULTILINE)
    return [int(number) for number in row.split()[:6]]


@pytest.mark.timeout(600)
def test_some_hundred_cases() -> None:
    """Scripts/soak.py --cases 100000 --jobs 2 is the whole of it."""
    done = soak("--cases", "300")
    assert done.returncode == 0, done.stdout + done.stderr
    cases, accepted, refused, *_ = total(done.stdout)
    assert cases == 300
    assert accepted > 75, "most cases are so damaged that nothing is compared"
    assert refused > 75, "most cases are sound"


PLANTED = {
    1: "crash: SIGSEGV in",
    2: "crash: SIGABRT in",
    3: "crash: exit code 3",
    4: "hang: no end after 2 s",
    5: "hang: no end after 2 s",
    6: "wrong numbers: planted beside torch",
    7: "silent acceptance: torch: RuntimeError: planted: torch refuses",
    8: "wrong kind of error: AttributeError in stack.py:norms",
    9: "error that names nothing: ValueError",
    10: "silent acceptance: planted: nobody may accept this",
}


@pytest.mark.timeout(300)
def test_everything_that_must_not_be_is_noticed() -> None:
    """Number 11 ends the process while one of the sound cases behind it runs."""
    done = soak("--only", "planted", "--cases", "15")
    assert done.returncode == 1, done.stdout + done.stderr
    cases, accepted, *_, failed = total(done.stdout)
    assert (cases, accepted, failed) == (15, 4, len(PLANTED) + 1)
    for number, text in PLANTED.items():
        assert text in done.stdout, number
        # Cases of one class share an example.
        assert number == 5 or f"scripts/soak.py --only planted --case {number}\n" in done.stdout, number
    assert "crash: SIGPROF" in done.stdout
    assert re.search(r"scripts/soak.py --only planted --first 6 --cases \d+ --batch \d+\n", done.stdout)


@pytest.mark.timeout(120)
def test_one_case_again() -> None:
    done = soak("--only", "planted", "--case", "21")
    assert done.returncode == 1
    assert "see(tensor(1.5 if side == 'rnnnorm' else 1.0), 'planted')\n→ failed planted, beside torch" in done.stdout
    assert soak("--only", "planted", "--case", "0").returncode == 0
