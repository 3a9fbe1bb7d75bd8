"""Shared fixtures: small thread count, fixed seeds, an environment that no test changes for the next."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)  # the matrices here are tiny: more threads only add hand-over time


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Give every test the same random stream, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Put the environment back: where a trainer has left LOCAL_RANK, one in another process waits for its peers."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


LONGEST = [
    *(
        "test_soak",
        "test_recipes",
        "test_compile",
        "test_worlds",
        "test_executors",
        "test_declared",
        "test_triton_launches",
    ),
    *(
        "test_synchronized",
        "test_onnx",
        "test_examples",
        "test_threads",
        "test_tuning",
        "test_traced",
        "test_sanitizer",
    ),
    *("test_contract", "test_processes", "test_library", "test_memory", "test_command"),
]
"""Files that take longest, so that no process is left with one of them when the others have ended."""


SAMPLED = {
    *("test_contract", "test_compile", "test_onnx", "test_traced", "test_export", "test_transforms", "test_parity"),
    *("test_module_info", "test_native", "test_native_full", "test_native_infinite", "test_native_statistics"),
    *("test_checks", "test_fold", "test_triton", "test_triton_launches", "test_synchronized", "test_population"),
    *("test_cells", "test_declared", "test_readable", "test_worlds", "test_equal_start", "test_lstm", "test_recording"),
}
"""Files whose tests have so many cases that a part of them is enough at every change; `--all-cases` runs all."""

CASES = 8
"""Of a test in such a file at least, and at least a sixth of all."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Everything, as before a release."""
    parser.addoption("--all-cases", action="store_true", help="run all cases, also of tests with many")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave cases out unless all are wanted, and begin with the longest files."""
    if not config.getoption("--all-cases"):
        left_out = _left_out(items)
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def _left_out(items: list[pytest.Item]) -> set[pytest.Item]:
    """Tests marked `release`, and cases of the others: always the same ones, chosen by a checksum of their names."""
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.path.stem in SAMPLED:
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    left_out = {item for item in items if item.get_closest_marker("release")}
    for cases in tests.values():
        cases.sort(key=lambda item: zlib.crc32(item.nodeid.encode()))
        left_out.update(cases[max(CASES, len(cases) // 6) :])
    return left_out
